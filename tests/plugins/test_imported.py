"""Imported maps: each format comes back as its authors meant it, and whatever does not fit is said in full."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import photos
import pytest
import torch
from PIL import Image

from matlabel_bench.contracts import check_cams
from matlabel_bench.errors import BenchError, DataError, UsageError
from matlabel_bench.images import VOC_PALETTE, enlarge
from matlabel_bench.label import make_label, make_scores
from matlabel_bench.stages import output, write_maps
from matlabel_cams.imported import Imported

SIZE = (30, 45)
IMAGE = np.zeros((*SIZE, 3), np.uint8)
TAGS = np.array([3, 15], np.uint8)
NAME = "2007_000032"
RNG = np.random.default_rng(0)
LARGE = RNG.random((2, *SIZE)).astype(np.float32)
"""Maps of classes 3 and 15 at the image's size."""
SMALL = RNG.random((2, 8, 12)).astype(np.float32)
"""The same at a quarter, rounded up."""


def scaled(maps: np.ndarray) -> np.ndarray:
    return maps / maps.max(axis=(1, 2), keepdims=True)


def irn(folder: Path, **other: Any) -> Path:
    content = {"keys": torch.tensor([2, 14]), "cam": torch.from_numpy(SMALL), "high_res": LARGE} | other
    np.save(folder / f"{NAME}.npy", {k: v for k, v in content.items() if v is not None})
    return folder


def seam(folder: Path, content: dict[Any, Any]) -> Path:
    np.save(folder / f"{NAME}.npy", content)
    return folder


def mask(folder: Path, label: np.ndarray, palette: bool = True, name: str = NAME) -> Path:
    picture = Image.fromarray(label.astype(np.uint8))
    if palette:
        picture.putpalette(VOC_PALETTE.tobytes())
    picture.save(folder / f"{name}.png")
    return folder


def read(folder: Path, tags: np.ndarray = TAGS, name: str = NAME, **fields: Any) -> np.ndarray:
    maps = Imported(maps=str(folder), **fields).open(None)(IMAGE, tags, name)
    return check_cams(maps, len(tags), "imported")


def test_irn_and_recam(tmp_path: Path) -> None:
    irn(tmp_path)
    np.testing.assert_allclose(read(tmp_path), scaled(LARGE), rtol=1e-6)
    np.testing.assert_allclose(read(tmp_path, plane="cam"), scaled(SMALL), rtol=1e-6)
    np.testing.assert_allclose(read(tmp_path, format="irn"), scaled(LARGE), rtol=1e-6)


@pytest.mark.parametrize(("absent", "kept"), [("high_res", SMALL), ("cam", LARGE)])
def test_irn_with_one_kind_of_maps(absent: str, kept: np.ndarray, tmp_path: Path) -> None:
    irn(tmp_path, **{absent: None})
    for plane in ("high_res", "cam"):
        np.testing.assert_allclose(read(tmp_path, plane=plane), scaled(kept), rtol=1e-6)


def test_a_quarter_of_the_size_lies_where_the_core_enlarges_it(tmp_path: Path) -> None:
    """One cell alone: the core finds its peak in the middle of the four pixels it covers."""
    cam = np.zeros((2, 8, 12), np.float32)
    cam[:, 5, 7] = 3
    irn(tmp_path, cam=torch.from_numpy(cam))
    large = enlarge(read(tmp_path, plane="cam"), SIZE)[0]
    rows, columns = np.nonzero(large == large.max())
    assert rows.tolist() == [21, 21, 22, 22] and columns.tolist() == [29, 30, 29, 30]


def test_seam(tmp_path: Path) -> None:
    seam(tmp_path, {14: LARGE[1], 2: LARGE[0] - 0.2})
    want = scaled(np.stack([np.clip(LARGE[0] - 0.2, 0, None), LARGE[1]]))
    np.testing.assert_allclose(read(tmp_path), want, rtol=1e-6)


def test_dictionaries_that_count_the_background(tmp_path: Path) -> None:
    """As SEAM and PSA write scores after a CRF: 0 is the background."""
    seam(tmp_path, {0: 1 - LARGE[0], 3: LARGE[0], np.int64(15): LARGE[1]})
    np.testing.assert_allclose(read(tmp_path, first=1), scaled(LARGE), rtol=1e-6)


def test_tags_without_a_map_and_maps_without_a_tag(tmp_path: Path) -> None:
    seam(tmp_path, {2: LARGE[0], 7: LARGE[1]})
    got = read(tmp_path)
    np.testing.assert_allclose(got[0], scaled(LARGE)[0], rtol=1e-6)
    assert not got[1].any()


@pytest.mark.parametrize("palette", [True, False])
def test_masks_become_the_same_label_again(palette: bool, tmp_path: Path) -> None:
    label = RNG.choice([0, 3, 15], SIZE).astype(np.uint8)
    label[:4] = 255
    got = read(mask(tmp_path, label, palette))
    again = make_label(make_scores(got, 0.5), TAGS)
    np.testing.assert_array_equal(again, np.where(label == 255, 0, label))
    assert set(np.unique(got)) == {0, 1}


def test_maps_of_the_store(tmp_path: Path) -> None:
    """Also under an id that a file cannot have for its name."""
    for name in (NAME, "a/b"):
        write_maps(output("maps", tmp_path, name), SIZE, cams=scaled(SMALL))
        np.testing.assert_allclose(read(tmp_path, name=name), scaled(SMALL), atol=1e-3)


@pytest.mark.parametrize("file", ["COCO_train2014_000000000790", "000000000790", "790"])
def test_images_of_coco_by_name_and_by_number(file: str, tmp_path: Path) -> None:
    label = np.full(SIZE, 3)
    got = read(mask(tmp_path, label, name=file), name="COCO_train2014_000000000790")
    assert got[0].all() and not got[1].any()


@pytest.mark.parametrize("form", ["irn", "seam", "png"])
def test_images_without_tags_and_files_without_maps(form: str, tmp_path: Path) -> None:
    none = np.array([], np.uint8)
    if form == "irn":
        empty = {"keys": torch.tensor([], dtype=torch.int64), "cam": torch.zeros(0, 8, 12)}
        irn(tmp_path, **empty, high_res=np.zeros((0, *SIZE), np.float32))
    elif form == "seam":
        seam(tmp_path, {})
    else:
        mask(tmp_path, np.zeros(SIZE))
    assert read(tmp_path, none).shape == (0, *SIZE)
    assert read(tmp_path, none, name="not listed").shape == (0, *SIZE)
    assert read(tmp_path).shape == (2, *SIZE) and not read(tmp_path).any()


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


Make = Callable[[Path], object]
CASES: list[tuple[Make, dict[str, Any], str]] = [
    (lambda f: None, {}, r"files ID\.npy or ID\.png or ID\.npz in .*got no files"),
    (lambda f: (f / "a.txt").touch(), {}, r"got 1 \.txt, first a\.txt"),
    (lambda f: (irn(f), mask(f, np.zeros(SIZE))), {}, r"files of one format.*1 \.npy, 1 \.png.*set format"),
    (irn, {"format": "png"}, r"files ID\.png \(format=png\).*1 \.npy, first 2007_000032\.npy"),
    (lambda f: mask(f, np.zeros(SIZE), name="9"), {}, r"a file 2007_.*no such file among the 1 there, first 9\.png"),
    (lambda f: irn(f, high_res=LARGE.transpose(0, 2, 1)), {}, r"maps of 30x45 in .*npy.*45x30.*changed places"),
    (lambda f: irn(f, high_res=LARGE[:1]), {}, r"2 maps in .*, one a class.*an array of 1 x 30 x 45"),
    (lambda f: irn(f, high_res=LARGE * np.nan), {}, r"finite numbers in .*nan"),
    (lambda f: irn(f, high_res=None, cam=None), {}, r"`keys` with `cam` or `high_res`.*got 'keys'"),
    (lambda f: irn(f, keys=torch.tensor([3, 15])), {}, r"maps of class 3 or 15.*with 4, 16.*set first=1"),
    (lambda f: irn(f, keys=torch.tensor([-1, 2])), {}, r"classes 0\.\.253 in .*got -1"),
    (irn, {"format": "seam"}, r"classes 0\.\.253 in .*got 'keys'.*another format"),
    (lambda f: irn(f, high_res=Runs()), {}, rf"a file of arrays.*asks for `{os.name}\.system`.*do not use"),
    (lambda f: seam(f, {2: LARGE[0], 14: LARGE[1, 1:]}), {}, r"maps of one size in .*\(29, 45\), \(30, 45\)"),
    (lambda f: seam(f, {2: "a"}), {}, r"maps of one size in"),
    (lambda f: mask(f, np.full((45, 30), 3)), {}, r"a mask of 30x45 in .*png.*45x30"),
    (lambda f: mask(f, np.full(SIZE, 4)), {}, r"maps of class 3 or 15.*with 4\n.*alien=ignore"),
    (lambda f: (f / f"{NAME}.png").write_bytes(b"a"), {}, r"a readable mask .*cannot identify"),
    (lambda f: np.savez(f / f"{NAME}.npz", cams=SMALL[:1], size=SIZE), {}, r"2 maps in .*an array of 1 x 8 x 12"),
    (lambda f: np.savez(f / f"{NAME}.npz", cams=SMALL, size=(9, 9)), {}, r"an image of 30x45 in .*got \[9, 9\]"),
    (lambda f: np.savez(f / f"{NAME}.npz", a=SMALL), {}, r"an array `cams` in .*got a\n"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "fields", "words"), CASES)
def test_what_does_not_fit(
    make: Make, fields: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "maps"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    make(folder)
    with pytest.raises(DataError, match="(?s)" + words):
        read(folder, **fields)
    assert not (tmp_path / "ran").exists()


def test_other_classes_can_be_ignored(tmp_path: Path) -> None:
    mask(tmp_path, np.full(SIZE, 4))
    assert not read(tmp_path, alien="ignore").any()


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [("", UsageError, r"a folder with maps.*imported\.maps=FOLDER"), ("/none", DataError, r"the folder /none")],
)
def test_no_folder(given: str, error: type[BenchError], words: str) -> None:
    with pytest.raises(error, match="(?s)" + words):
        Imported(maps=given).open(None)


def test_the_files_are_the_key(tmp_path: Path) -> None:
    """A folder that moved is the same; another content is another."""
    from matlabel_bench.fields import key_fields

    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    irn(tmp_path / "a")
    shutil.copy(tmp_path / "a" / f"{NAME}.npy", tmp_path / "b")
    irn(tmp_path / "c", high_res=LARGE[::-1].copy())
    a, b, c = (key_fields(replace(Imported(), maps=str(tmp_path / name))) for name in "abc")
    assert a == b != c


def test_a_row_of_a_table(bench: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    """True masks as somebody's pseudo-labels: all is right."""
    root = photos.write(tmp_path / "photos")
    for name, tag in ((photos.IDS[0], 1), (photos.IDS[2], 2)):
        path = root / "masks" / f"{name}.png"
        Image.fromarray(np.where(np.asarray(Image.open(path)) == tag, np.uint8(tag), np.uint8(0))).save(path)
    shutil.copytree(root / "masks", tmp_path / "theirs")
    (tmp_path / "p.toml").write_text(photos.PROFILE)
    (tmp_path / "t.toml").write_text(
        'title = "t"\n[[columns]]\nname = "Seed"\nthreshold = "fixed"\n[[rows]]\nname = "theirs"\ncam = "imported"\n'
    )
    words = ("run", "t.toml", "--profile", "p.toml", "--data-root", "photos", "--workers", "1")
    done = bench(*words, "--set", "imported.maps=theirs")
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "bench-out" / "t" / "table.md").read_text()
    assert "| tags+imported | 100.0" in table and "read from files" in table
