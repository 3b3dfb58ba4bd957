"""Fingerprints: what changes them, and that remembering digests never hides a change."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import photos
import pytest

from matlabel_bench import fingerprint
from matlabel_bench.errors import DataError
from matlabel_bench.fingerprint import Fingerprints
from matlabel_bench.types import Sample, Split


@pytest.fixture
def split(tmp_path: Path) -> Split:
    root = photos.write(tmp_path / "photos")
    samples = tuple(Sample(i, root / f"images/{i}.png", (1,)) for i in photos.IDS)
    return Split("folder", "train", ("cat", "dog"), samples)


def of(split: Split, tmp_path: Path) -> str:
    return Fingerprints(tmp_path / "store").split(split)


def moved(split: Split, folder: Path) -> Split:
    folder.mkdir()
    samples = []
    for sample in split:
        (folder / sample.path.name).write_bytes(sample.path.read_bytes())
        samples.append(dataclasses.replace(sample, path=folder / sample.path.name))
    return dataclasses.replace(split, samples=tuple(samples))


def test_a_place_and_a_splits_name_change_nothing(split: Split, tmp_path: Path) -> None:
    assert of(moved(split, tmp_path / "elsewhere"), tmp_path) == of(split, tmp_path)
    assert of(dataclasses.replace(split, name="val", dataset="other"), tmp_path) == of(split, tmp_path)


def test_images_ids_tags_class_names_and_order_change_it(split: Split, tmp_path: Path) -> None:
    first, *rest = split.samples
    seen = {of(split, tmp_path)}
    for other in (
        dataclasses.replace(split, classes=("cat", "cow")),
        dataclasses.replace(split, samples=(dataclasses.replace(first, tags=(1, 2)), *rest)),
        dataclasses.replace(split, samples=(dataclasses.replace(first, id="z"), *rest)),
        dataclasses.replace(split, samples=(*rest, first)),
        dataclasses.replace(split, samples=tuple(rest)),
    ):
        seen.add(of(other, tmp_path))
    first.path.write_bytes(first.path.read_bytes() + b"\0")
    seen.add(of(split, tmp_path))
    assert len(seen) == 7


def test_a_file_is_read_once_and_again_when_it_changed(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = fingerprint.digest

    def counting(path: Path) -> str:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(fingerprint, "digest", counting)
    first = of(split, tmp_path)
    assert len(read) == 3
    assert of(split, tmp_path) == first
    assert len(read) == 3, "remembered by path, size and time of change"
    victim = split.samples[1].path
    stat, content = victim.stat(), bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(bytes(content))
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert of(split, tmp_path) != first
    assert read[3:] == [victim.name]


@pytest.mark.parametrize("memory", ["{", "[]", '{"a": 3, "b b": [1], "ç": null}'])
def test_a_spoilt_memory_is_only_a_memory(split: Split, tmp_path: Path, memory: str) -> None:
    first = of(split, tmp_path)
    (path,) = (tmp_path / "store" / "fingerprints").iterdir()
    path.write_text(memory, encoding="utf-8")
    assert of(split, tmp_path) == first


def test_absent_files_are_counted_and_named(split: Split, tmp_path: Path) -> None:
    for sample in split.samples[1:]:
        sample.path.unlink()
    with pytest.raises(DataError) as err:
        of(split, tmp_path)
    assert "every file of split 'train' of folder" in str(err.value)
    assert "2 absent, e.g. b b, ç" in str(err.value)


def test_masks_by_name(split: Split, tmp_path: Path) -> None:
    prints = Fingerprints(tmp_path / "store")
    files = {s.id: s.path for s in split}
    assert prints.files({}) == "none"
    assert prints.files(files) == prints.files(dict(reversed(files.items())))
    assert prints.files(files) != prints.files(dict.fromkeys(files, files["a"]))
