"""What a user can get wrong: each case says what was expected, what came and what to do, and loses nothing.

The command line runs in this process (`cli.main`, as the `bench` script calls it), so that many cases stay cheap; what
needs processes of its own (dying workers, limits of the system) has them.
"""

from __future__ import annotations

import csv
import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from calling import environment
from PIL import Image

from matlabel_bench import cli, registry

TABLE = '[[columns]]\nname = "Seed"\n[[rows]]\nname = "plain"\ncam = "stub-cam"\n'
PROFILE = 'name = "p"\n[run]\ndataset = "voc12"\nfit_split = "train"\nsplit = "train"\n'
IDS = [f"2007_{i:06d}" for i in range(3)]
LIST, TAGS = "ImageSets/Segmentation/train.txt", "image_labels.csv"
JPEG, MASK = f"JPEGImages/{IDS[1]}.jpg", f"SegmentationClass/{IDS[1]}.png"


def make_voc(root: Path) -> None:
    """Three images of cats in the layout of VOC 2012."""
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "ImageSets/Segmentation", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    mask = np.zeros((32, 40), np.uint8)
    mask[8:20, 8:20], mask[0, 0] = 8, 255
    for name in IDS:
        Image.fromarray(rng.integers(0, 255, (32, 40, 3), dtype=np.uint8)).save(root / f"JPEGImages/{name}.jpg")
        Image.fromarray(mask).save(root / f"SegmentationClass/{name}.png")
    (root / LIST).write_text("\n".join(IDS))
    (root / TAGS).write_text("".join(f"{name},cat\n" for name in IDS))


@dataclass
class Desk:
    """A user's folder and what one command in it said."""

    folder: Path
    main: Callable[..., tuple[int, str]]

    @property
    def voc(self) -> Path:
        return self.folder / "VOC2012"

    def run(self, *words: object, table: str = TABLE, profile: str = PROFILE) -> tuple[int, str]:
        """Exit code and everything said by `bench run` with this table and profile."""
        (self.folder / "t.toml").write_text(table)
        (self.folder / "p.toml").write_text(profile)
        options = ["--profile", "p.toml", "--data-root", "VOC2012", "--workers", "1", *map(str, words)]
        return self.main("run", "t.toml", *options)

    def cells(self) -> list[dict[str, str]]:
        with (self.folder / "bench-out/t/cells.csv").open(newline="") as handle:
            return list(csv.DictReader(handle))

    def done(self) -> int:
        return len(list(self.folder.glob("bench-store/*/*/done.json")))


@pytest.fixture(scope="module")
def voc_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("voc") / "VOC2012"
    make_voc(root)
    return root


@pytest.fixture
def desk(
    tmp_path: Path, stubs: None, voc_source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    shutil.copytree(voc_source, tmp_path / "VOC2012")
    monkeypatch.chdir(tmp_path)

    def main(*words: str) -> tuple[int, str]:
        code = cli.main(words)
        said = capsys.readouterr()
        return code, said.out + said.err

    return Desk(tmp_path, main)


def assert_refused(got: tuple[int, str], *said: str) -> None:
    """Exit code 2, three parts, no traceback, nothing computed."""
    code, text = got
    assert code == 2, text
    for part in ("expected ", "     got ", "  remedy ", *said):
        assert part in text
    assert "Traceback" not in text
    assert "] maps" not in text, "found only after something was computed"


# The data set -------------------------------------------------------------------------------------------------------


def _no_file(path: str) -> Callable[[Path], object]:
    return lambda root: (root / path).unlink()


def _text(path: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / path).write_text(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shutil.rmtree, ["the data root", "VOC2012", "no such folder", "--data-root DIR"]),
        (lambda r: (shutil.rmtree(r), r.mkdir()), ["JPEGImages", "nothing in it", "--data-root DIR"]),
        (_no_file(JPEG), ["an image file for each of the 3 ids", "1 without: 2007_000001", "take these ids out"]),
        (_no_file(MASK), ["a mask for each of the 3 images", "1 without, e.g. 2007_000001", "add the missing files"]),
        (
            lambda r: shutil.rmtree(r / "SegmentationClass"),
            ["a mask for each", "3 without", "`bench label` needs none"],
        ),
        (_text(TAGS, f"{IDS[0]},cat\n{IDS[1]},\n{IDS[2]},cat\n"), ["an empty tag list for 1: 2007_000001"]),
        (_text(TAGS, f"{IDS[0]},cat\n"), ["tags for each of the 3 ids", "2 without: 2007_000001, 2007_000002"]),
        (_text(TAGS, f"{IDS[0]},catt\n"), ["known classes in", "'catt'", "did you mean 'cat'"]),
        (_text(LIST, "\n"), ["at least one image in", "train.txt", "got none"]),
        (_text(LIST, "a\na\n"), ["each image once", "1 repeated: a"]),
    ],
    ids=["no root", "empty root", "no image", "no mask", "no masks", "no tags", "untagged", "tag", "list", "twice"],
)
def test_a_data_set_that_is_not_what_its_layout_promises(desk: Desk, change, said: list[str]) -> None:
    change(desk.voc)
    assert_refused(desk.run(), *said)
    assert not desk.folder.joinpath("bench-out/t").exists()


def _mask(value: int, shape: tuple[int, ...]) -> Callable[[Path], object]:
    return lambda root: Image.fromarray(np.full(shape, value, np.uint8)).save(root / MASK)


@pytest.mark.parametrize(
    ("change", "stage", "said"),
    [
        (lambda r: os.truncate(r / JPEG, 300), "maps", ["a readable image", JPEG, "copy or download it again"]),
        (_text(JPEG, "no picture"), "maps", ["cannot identify image file", JPEG]),
        (_mask(77, (32, 40)), "score", ["mask values 0..20 and 255", f"{MASK} with 77", "repaint"]),
        (_mask(7, (32, 40, 3)), "score", ["one class id a pixel", f"{MASK} of mode RGB", "grey PNG"]),
        (_mask(7, (31, 40)), "score", ["as large as the image's maps, 32 x 40", "31 x 40", "at its own size"]),
        (_text(MASK, "no picture"), "score", ["a readable mask", MASK]),
    ],
    ids=["cut jpeg", "text jpeg", "value", "colours", "size", "text mask"],
)
def test_a_bad_file_fails_its_cell_and_keeps_the_rest(desk: Desk, change, stage: str, said: list[str]) -> None:
    change(desk.voc)
    code, text = desk.run()
    assert code == 1
    assert "Traceback" not in text
    (cell,) = desk.cells()
    assert cell["status"] == "failed"
    for part in (f"{stage}", *said, "(image 2007_000001)", "what was computed is kept"):
        assert part in cell["reason"]
        assert part in text
    kept = sorted(p.name for p in desk.folder.glob("bench-store/maps/*/files/*.npz"))
    assert kept == ([f"{IDS[0]}.npz", f"{IDS[2]}.npz"] if stage == "maps" else [f"{i}.npz" for i in IDS])
    assert (desk.folder / "bench-out/t/table.md").is_file()


def test_grey_cmyk_and_transparent_images_and_one_of_one_pixel_are_images(desk: Desk) -> None:
    for name, mode in zip(IDS, ("L", "CMYK", "RGBA"), strict=True):
        path = desk.voc / f"JPEGImages/{name}.jpg"
        with Image.open(path) as picture:
            other = picture.convert(mode)
        path.unlink()
        other.save(path.with_suffix(".png") if mode == "RGBA" else path)
    Image.new("RGB", (1, 1)).save(desk.voc / "JPEGImages/dot.png")
    Image.new("L", (1, 1)).save(desk.voc / "SegmentationClass/dot.png")
    (desk.voc / LIST).write_text("\n".join([*IDS, "dot"]))
    (desk.voc / TAGS).write_text("".join(f"{name},cat dog\n" for name in [*IDS, "dot"]))
    code, text = desk.run(table=TABLE + 'matting = "stub-matting"\n')
    assert code == 0, text
    assert desk.cells()[0]["images"] == "4"


def test_a_split_of_one_image_is_a_split(desk: Desk) -> None:
    (desk.voc / LIST).write_text(IDS[0])
    code, text = desk.run()
    assert code == 0, text
    assert desk.cells()[0]["images"] == "1"


def test_images_without_tags_are_kept_on_request_in_a_folder(desk: Desk) -> None:
    (desk.voc / "tags.csv").write_text((desk.voc / TAGS).read_text().replace(f"{IDS[1]},cat", f"{IDS[1]},"))
    words = ["--dataset", "folder", "--set", "folder.images=JPEGImages", "--set", "folder.masks_dir=SegmentationClass"]
    words += ["--set", "folder.classes=a,b,c,d,e,f,g,cat"]
    assert_refused(desk.run(*words), "an empty tag list for 1: 2007_000001", "--set folder.untagged=keep")
    code, text = desk.run(*words, "--set", "folder.untagged=keep", table=TABLE + 'matting = "stub-matting"\n')
    assert code == 0, text
    assert desk.cells()[0]["images"] == "3"


# Names and numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dataset", "voc"], ["a registered dataset", "'voc'", "did you mean 'voc12'"]),
        (["--set", "voc12.labels=json"], ["voc12.labels to be one of 'auto', 'csv'", "'json'"]),
        (["--set", "voc12.classes=cat,dgo"], ["classes of PASCAL VOC", "'dgo'", "did you mean 'dog'"]),
        (["--set", "stub-cam.gian=2"], ["a field of stub-cam", "'gian'", "did you mean 'gain'"]),
        (["--set", "stub-cma.gain=2"], ["--set to name a part of t", "did you mean 'stub-cam'"]),
        (["--set", "stub-cam.gain=nan"], ["stub-cam.gain to be a finite number", "'nan'"]),
        (["--set", "stub-cam.gain=0"], ["stub-cam.gain of at least 0.1"]),
        (["--set", "stub-cam.fail=maybe"], ["stub-cam.fail to be true or false", "'maybe'"]),
        (["--set", "label.map_threshold=0.155"], ["label.map_threshold in steps of 0.01", "0.155", "0.15 or 0.16"]),
        (["--set", "label.alpha_threshold=1.0"], ["label.alpha_threshold of at most 0.99", "1.0"]),
        (["--set", "trimap.fg=0.1"], ["trimap.fg above trimap.bg", "fg=0.1 and bg=0.2"]),
        (["--seed", "-1"], ["--seed as different whole numbers from 0", "got -1"]),
        (["--seed", "1", "1"], ["each seed once"]),
        (["--workers", "0"], ["--workers of at least 1"]),
        (["--store", "p.toml"], ["a store folder that can be written", "p.toml", "--store"]),
        (["--out", "p.toml"], ["a results folder that can be written", "p.toml", "--out"]),
        (["--dataset", "shapes", "--data-root", "t.toml"], ["to write the scenes of shapes", "t.toml"]),
        (["--dataset", "folder"], ["the table of tags", "tags.csv"]),
    ],
)
def test_options_that_cannot_be_meant(desk: Desk, words: list[str], said: list[str]) -> None:
    assert_refused(desk.run(*words), *said)


def test_a_cluster_without_dask(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matlabel_bench.workers.find_spec", lambda name: None)
    assert_refused(desk.run("--scheduler", "tcp://nowhere:1"), "Dask for --scheduler", "matlabel-bench[cluster]")


SEED = 'name = "Seed"\n'


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[[columns]\n", ["table file t.toml to be TOML", "line 1"]),
        (TABLE.replace("[[columns]]", "[columns]"), ["to have columns", "double brackets"]),
        ("[[columns]]\n" + SEED, ["to have rows", "none"]),
        (TABLE.replace(SEED, SEED + 'refine = "crf"\n'), ["refine of a column", "a list of texts"]),
        (TABLE.replace(SEED, SEED + 'threshold = "mask_free"\n'), ["column 'Seed'", "did you mean 'mask-free'"]),
        (TABLE.replace(SEED, 'nmae = "x"\n'), ["'nmae'", "did you mean 'name'"]),
        (TABLE.replace(SEED, ""), ["a column of table 't.toml' to have a name"]),
        ("[[columns]]\n" + SEED + TABLE, ["every column once", "'Seed' twice"]),
        (TABLE + '[[rows]]\nname = "plain"\n', ["every row once", "'plain' twice"]),
        (TABLE + 'matte = "knn"\n', ["'matte'", "did you mean 'matting'"]),
        (TABLE + 'threshold = "orcale"\n', ["row 'plain'", "did you mean 'oracle'"]),
        (TABLE + 'published = { "Sed" = 48 }\n', ["'Sed'", "did you mean 'Seed'"]),
        (TABLE + 'published = { "Seed" = "48" }\n', ["published of a row", "numbers under columns"]),
        (TABLE + "set.trimap.fg = 0.5\n", ["fields as part.field", '"trimap.FIELD" = VALUE']),
        (TABLE + 'set = { "trimpa.fg" = 0.5 }\n', ["a part of it", "'trimpa'", "did you mean 'trimap'"]),
        (TABLE + 'set = { "stub-cam.gain" = true }\n', ["stub-cam.gain to be a finite number", "True"]),
        (TABLE.replace('"stub-cam"', '"stub-matting"'), ["a cam in row 'plain'", "which is a matting", "'stub-cam'"]),
        (TABLE + 'matting = "stub-cam"\n', ["a matting in row 'plain'", "which is a cam", "'stub-matting'"]),
        (TABLE.replace(SEED, SEED + 'refine = ["knn"]\n'), ["a refiner in row", "'knn', which is a matting"]),
        ('[[rows]]\nname = "r"\nmatting = "knn"\n[[columns]]\n' + SEED, ["which cam its trimap comes from"]),
        ('name = "../x"\n' + TABLE, ["a table that can name a folder", "'../x'"]),
        ('compare = [["plain"]]\n' + TABLE, ["pairs of rows", "['plain']"]),
        ('compare = [["plain", "plian"]]\n' + TABLE, ["compare", "'plian'", "did you mean 'plain'"]),
        ('split = "tain"\n' + TABLE, ["a split of voc12", "'tain'", "did you mean 'train'"]),
    ],
)
def test_tables_that_cannot_be_meant(desk: Desk, table: str, said: list[str]) -> None:
    assert_refused(desk.run(table=table), *said)


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("name = \n", ["profile file p.toml to be TOML"]),
        ("run = 3\n", ["to be a section", "write [run]"]),
        ('[run]\ndataset = "voc12"\n', ["to say fit_split, split"]),
        (PROFILE + "sed = [1]\n", ["'sed'", "did you mean 'seeds'"]),
        (PROFILE + "seeds = 3\n", ["seeds in [run]", "got 3"]),
        (PROFILE + "seeds = []\n", ["seeds in [run]", "got none"]),
        (PROFILE + "seeds = [1, 1]\n", ["seeds in [run]", "got 1, 1"]),
        (PROFILE.replace('"voc12"', "12"), ["dataset of profile 'p' to be a text", "12"]),
        ("gain = 1\n" + PROFILE, ["sections named by part", "gain = 1"]),
        (PROFILE + "[stub-cma]\ngain = 2\n", ["[stub-cma]", "did you mean 'stub-cam'"]),
        (PROFILE + "[stub-cam]\ngian = 2\n", ["a field of stub-cam", "did you mean 'gain'"]),
        (PROFILE.replace('split = "train"\n', 'split = "tain"\n'), ["a split of voc12", "did you mean 'train'"]),
    ],
)
def test_profiles_that_cannot_be_meant(desk: Desk, profile: str, said: list[str]) -> None:
    assert_refused(desk.run(profile=profile), *said)


def test_a_part_that_is_not_installed_is_a_dash_with_a_hint(desk: Desk) -> None:
    code, text = desk.run(table=TABLE + '[[rows]]\nname = "typo"\ncam = "stub-cma"\n')
    assert code == 0
    assert "a dash stands where cam 'stub-cma' is not installed; did you mean 'stub-cam'" in text
    assert [c["status"] for c in desk.cells()] == ["measured", "missing"]
    assert "did you mean 'stub-cam'" in desk.cells()[1]["reason"]


def test_a_recipe_is_one_row_and_looks_at_no_mask(desk: Desk) -> None:
    (desk.voc / "tags.csv").write_text((desk.voc / TAGS).read_text())
    for recipe, said in (
        (TABLE, "a threshold without masks"),
        (TABLE + '[[rows]]\nname = "two"\n', "one column and one row with a cam"),
        (TABLE.replace('cam = "stub-cam"', ""), "one column and one row with a cam"),
    ):
        (desk.folder / "r.toml").write_text(recipe)
        (desk.folder / "p.toml").write_text(PROFILE)
        words = ["--tags", "VOC2012/tags.csv", "--recipe", "r.toml", "--profile", "p.toml", "--workers", "1"]
        assert_refused(desk.main("label", "VOC2012/JPEGImages", *words), said)


@pytest.mark.parametrize(
    ("images", "tags", "said"),
    [
        ("VOC2012/Jpeg", "VOC2012/tags.csv", ["a folder of images: VOC2012/Jpeg", "no such folder"]),
        ("VOC2012/tags.csv", "VOC2012/tags.csv", ["a folder of images", "got a file"]),
        ("VOC2012/JPEGImages", "tags.csv", ["a table of tags: tags.csv", "no such file", "--tags"]),
        ("VOC2012/JPEGImages", "VOC2012", ["a table of tags", "got a folder"]),
    ],
)
def test_photographs_or_tags_that_are_not_there(desk: Desk, images: str, tags: str, said: list[str]) -> None:
    (desk.voc / "tags.csv").write_text((desk.voc / TAGS).read_text())
    assert_refused(desk.main("label", images, "--tags", tags), *said)


# Plugins ------------------------------------------------------------------------------------------------------------

PLUGIN = """
import os
from dataclasses import dataclass
import numpy as np
from matlabel_bench.spec import hookimpl
from matlabel_bench.types import Split

@dataclass(frozen=True)
class Bad:
    def open(self, out):
        {body}

@dataclass(frozen=True)
class Empty:
    root: str = ""
    def class_names(self): return ("a",)
    def split_names(self): return ("train",)
    def split(self, name): return Split("empty", name, ("a",), ())
    def masks(self, name): return None
    def mask_files(self, name): return {{}}

@hookimpl
def matlabel_register(registry):
    {register}
"""


def plug(site: Path, name: str, text: str, entry: str = "") -> None:
    """Lay out an installed distribution of one module."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[matlabel_bench]\n{entry or name} = {name}\n")
    (site / f"{name}.py").write_text(text)


def bad_part(body: str = "pass", register: str = "registry.add('cam', 'bad', Bad)") -> str:
    return PLUGIN.format(body=body, register=register)


@pytest.fixture
def site(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path; its modules are forgotten after the test."""
    folder = desk.folder / "site"
    monkeypatch.syspath_prepend(str(folder))
    registry.start.cache_clear()
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
    registry.start.cache_clear()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0\n", ["plugin 'odd' (odd 1.0) to load", "ZeroDivisionError", "MATLABEL_BENCH_BLOCK=odd"]),
        ("import no_such_module\n", ["ModuleNotFoundError", "MATLABEL_BENCH_BLOCK=odd"]),
        ("raise SystemExit(0)\n", ["SystemExit: 0", "MATLABEL_BENCH_BLOCK=odd"]),
        (bad_part(register="registry.add('cams', 'bad', Bad)"), ["a known kind of part", "did you mean 'cam'"]),
        (bad_part(register="registry.add('cam', 'bad', dict)"), ["a frozen dataclass", "cam 'bad' from odd 1.0"]),
        (bad_part(register="registry.add('cam', 'bad', Empty)"), ["a cam to have open", "spec.py"]),
        (
            bad_part(register="registry.add('cam', 'stub-cam', Bad)"),
            ["a new name for a cam", "'stub-cam'", "odd 1.0", "MATLABEL_BENCH_BLOCK=odd", "MATLABEL_BENCH_BLOCK=stubs"],
        ),
        (bad_part() + "@hookimpl\ndef matlabel_colums(cell): pass\n", ["hooks among", "'matlabel_colums'"]),
    ],
    ids=["raises", "lacks", "exits", "kind", "no dataclass", "no method", "taken", "hook"],
)
def test_a_plugin_that_cannot_be_loaded_says_how_to_go_on(
    desk: Desk, site: Path, text: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(site, "odd", text)
    assert_refused(desk.main("list"), *said)
    registry.start.cache_clear()
    monkeypatch.setenv(registry.BLOCK, "odd")
    assert desk.main("list", "cam")[0] == 0


def test_two_plugins_of_one_name(desk: Desk, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug(site, "one", "", entry="same")
    plug(site, "two", "", entry="same")
    assert_refused(desk.main("list"), "different names", "'same' from one 1.0 and from two 1.0", "uninstall one")
    monkeypatch.setenv(registry.BLOCK, "smae")
    assert_refused(desk.main("list"), "MATLABEL_BENCH_BLOCK to name entry points", "did you mean 'same'")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return open('weights.pth')", ["FileNotFoundError", "weights.pth", "a defect of the part"]),
        ("return lambda image, tags: exit(3)", ["SystemExit: 3", "`bench check` it"]),
        ("raise MemoryError('40 GiB')", ["MemoryError: 40 GiB", "use fewer --workers"]),
        ("return lambda image, tags: [1]", ["bad to return maps as a NumPy array", "list"]),
        ("return lambda image, tags: np.ones((len(tags), 4, 4))", ["as float32, 1 x any x any", "float64, 1 x 4 x 4"]),
        ("return lambda image, tags: np.full((1, 4, 4), np.nan, np.float32)", ["maps of bad in [0.0, 1.0]", "nan"]),
        ("return lambda image, tags: np.full((1, 4, 4), 0.5, np.float32)", ["with maximum 1", "channel 0"]),
    ],
    ids=["no file", "exits", "memory", "list", "float64", "nan", "not scaled"],
)
def test_a_part_that_breaks_fails_its_own_cells_only(desk: Desk, site: Path, body: str, said: list[str]) -> None:
    plug(site, "odd", bad_part(body))
    code, text = desk.run(table=TABLE + '[[rows]]\nname = "bad"\ncam = "bad"\n')
    assert code == 1, text
    assert "Traceback" not in text
    good, bad = desk.cells()
    assert (good["status"], bad["status"]) == ("measured", "failed")
    for part in (*said, f"(image {IDS[0]}, and 2 more: {IDS[1]}, {IDS[2]})"):
        assert part in bad["reason"]


def test_a_matting_that_cannot_be_opened_fails_its_own_cells_only(desk: Desk, site: Path) -> None:
    plug(site, "odd", bad_part("return open('weights.pth')", "registry.add('matting', 'bad', Bad)"))
    code, text = desk.run(table=TABLE + '[[rows]]\nname = "bad"\ncam = "stub-cam"\nmatting = "bad"\n')
    assert code == 1, text
    assert [c["status"] for c in desk.cells()] == ["measured", "failed"]
    assert "alpha bad: " in desk.cells()[1]["reason"]
    assert "weights.pth" in desk.cells()[1]["reason"]


def test_a_data_set_plugin_without_images(desk: Desk, site: Path) -> None:
    plug(site, "odd", bad_part(register="registry.add('dataset', 'empty', Empty)"))
    assert_refused(desk.run("--dataset", "empty"), "images with different ids in split 'train'", "no image")


def test_a_worker_that_dies_fails_its_stage_and_the_others_go_on(desk: Desk) -> None:
    site = desk.folder / "site"
    plug(site, "odd", bad_part("return lambda image, tags: os._exit(3)"))
    row = '[[rows]]\nname = "bad"\ncam = "bad"\n'
    (desk.folder / "t.toml").write_text(TABLE.replace("[[rows]]", row + "[[rows]]"))
    (desk.folder / "p.toml").write_text(PROFILE)
    words = ["run", "t.toml", "--profile", "p.toml", "--data-root", "VOC2012", "--workers", "2"]
    env = environment()
    done = subprocess.run(
        [sys.executable, "-m", "matlabel_bench", *words],
        cwd=desk.folder,
        env=env | {"PYTHONPATH": os.pathsep.join([str(site), env["PYTHONPATH"]])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    bad, good = desk.cells()
    assert (bad["status"], good["status"]) == ("failed", "measured")
    assert "every worker process to live" in bad["reason"]
    assert "fewer --workers" in bad["reason"]


# The disk -----------------------------------------------------------------------------------------------------------


def test_a_full_disk_stops_the_run_at_once_and_loses_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    table = TABLE + 'matting = "stub-matting"\n'
    tries = []

    def full(*args: object, **options: object) -> None:
        tries.append(args)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)  # the trimap stage is the first to write a picture
        code, text = desk.run(table=table)
    assert code == 2
    assert len(tries) == 1, "the next image cannot be written either"
    for part in ("expected room on the disk", "/trimap/", "No space left on device", "the same command resumes"):
        assert part in text
    assert "Traceback" not in text
    assert desk.cells()[0]["reason"] == "not computed yet: the run was interrupted"
    assert desk.done() == 1, "the maps are there"
    code, text = desk.run(table=table)
    assert code == 0
    assert "1 of them in the store" in text
    assert desk.main("store", "verify")[0] == 0


def test_a_limit_of_file_sizes_is_said(desk: Desk) -> None:
    (desk.folder / "t.toml").write_text(TABLE)
    (desk.folder / "p.toml").write_text(PROFILE)
    words = ["run", "t.toml", "--profile", "p.toml", "--data-root", "VOC2012", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "matlabel_bench", *words],
        cwd=desk.folder,
        env=environment(PYTHONDONTWRITEBYTECODE="1"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    for part in ("room for a file of this size", "File too large", "bench-store", "ulimit -f"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_files_where_folders_should_be(desk: Desk) -> None:
    (desk.folder / "bench-out").mkdir()
    (desk.folder / "bench-out/t").write_text("in the way")
    assert_refused(desk.run(), "a folder for results of t", "bench-out/t (File exists)", "--out")
    (desk.folder / "bench-out/t").unlink()
    (desk.folder / "other").mkdir()
    (desk.folder / "other/maps").write_text("in the way")
    code, text = desk.run("--store", "other")
    assert code == 2
    assert "other/maps" in text
    assert "a part of this path is a file" in text


def test_a_damaged_store_says_which_folder_to_remove(desk: Desk) -> None:
    assert desk.run()[0] == 0
    victim = next(desk.folder.glob("bench-store/maps/*/files/*.npz"))
    victim.write_bytes(b"damaged")
    score = next(desk.folder.glob("bench-store/score/*/done.json")).parent
    shutil.rmtree(score)
    code, text = desk.run()
    assert code == 1
    assert "run `bench store verify`" in desk.cells()[0]["reason"]
    code, text = desk.main("store", "verify")
    assert code == 1
    assert f"{victim.name}: changed since it was written" in text
    assert "remedy: remove these STAGE/KEY folders from " in text
    assert "bench-store; the next run computes them anew" in text
    shutil.rmtree(victim.parent.parent)
    assert desk.run()[0] == 0
    (next(desk.folder.glob("bench-store/maps/*/done.json"))).write_text("{")
    assert_refused(desk.run(), "a readable JSON file of the store", "done.json", "run again")
    assert_refused(desk.main("store", "gc", "--days", "nan"), "a number of days of at least 0")
