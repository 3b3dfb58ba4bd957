"""Profile, command line and row: which one wins, and that every override reaches something."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import photos
import pytest

from matlabel_bench.config import Experiment, Options, parse_sets, resolve
from matlabel_bench.errors import MissingPart, UsageError
from matlabel_bench.profiles import check_seeds, load_profile, profiles
from matlabel_bench.registry import BLOCK
from matlabel_bench.tables import Column, Row

TABLE = """
[[columns]]
name = "Seed"
refine = ["stub-shift"]
[[rows]]
name = "plain"
cam = "stub-cam"
[[rows]]
name = "sharp"
cam = "stub-cam"
set = { "stub-cam.gain" = 4, "label.map_threshold" = 0.3 }
[[rows]]
name = "absent"
cam = "stub-nothing"
"""
PROFILE = """
name = "small"
[run]
dataset = "shapes"
fit_split = "train"
split = "val"
seeds = [3, 4]
[shapes]
train = 2
val = 1
size = 64
[stub-cam]
gain = 2
[stub-nothing]
depth = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stubs: None) -> Path:
    (tmp_path / "t.toml").write_text(TABLE)
    (tmp_path / "p.toml").write_text(PROFILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settle(**options: object) -> Experiment:
    return resolve(["t.toml"], dataclasses.replace(Options(profile="p.toml"), **options))


COLUMN = Column("S")


def rows(experiment: Experiment) -> dict[str, Row]:
    return {r.name: r for r in experiment.tables[0].rows}


def test_the_row_wins_over_the_command_line_over_the_profile_over_the_default(folder: Path) -> None:
    plain = settle()
    assert plain.part("cam", "stub-cam", rows(plain)["plain"], COLUMN).gain == 2
    told = settle(sets=("stub-cam.gain=3", "trimap.fg=0.6"))
    assert told.part("cam", "stub-cam", rows(told)["plain"], COLUMN).gain == 3
    assert told.part("cam", "stub-cam", rows(told)["sharp"], COLUMN).gain == 4
    assert told.rule("label", rows(told)["sharp"], COLUMN).map_threshold == 0.3
    assert told.rule("label", rows(told)["plain"], COLUMN).map_threshold == 0.15
    assert told.rule("trimap", rows(told)["plain"], COLUMN).fg == 0.6
    with pytest.raises(MissingPart):
        told.part("cam", "stub-nothing", rows(told)["absent"], COLUMN)


def test_data_set_seeds_and_root(folder: Path) -> None:
    own = settle()
    assert (own.dataset.train, own.dataset.root, own.profile.seeds) == (2, "", (3, 4))
    other = settle(data_root="elsewhere", seeds=(9,), sets=("shapes.train=5",))
    assert (other.dataset.train, other.dataset.root, other.profile.seeds) == (
        5,
        str(Path("elsewhere").absolute()),
        (9,),
    )


def test_device_and_weights_reach_the_parts_that_have_such_a_field(folder: Path) -> None:
    table = '[[columns]]\nname = "S"\n[[rows]]\nname = "r"\ncam = "cam"\n'
    Path("t.toml").write_text(table + '[[rows]]\nname = "own"\ncam = "cam"\nset = { "cam.device" = "cpu" }\n')
    Path("p.toml").write_text(PROFILE.replace("[stub-nothing]\ndepth = 3\n", ""))
    experiment = settle(device="cuda", weights="w.pth")
    part = experiment.part("cam", "cam", rows(experiment)["r"], COLUMN)
    assert (part.device, part.weights) == ("cuda", "w.pth")
    assert experiment.part("cam", "cam", rows(experiment)["own"], COLUMN).device == "cpu"


LEARNERS = """
[[columns]]
name = "S"
matting = "stub-learned"
refine = ["stub-maps"]
segment = "stub-segmenter"
[[rows]]
name = "r"
cam = "cam"
[[rows]]
name = "own"
cam = "cam"
set = { "stub-maps.weights" = "mine.pth" }
"""
PARTS = {"cam": "cam", "stub-learned": "matting", "stub-maps": "refiner", "stub-segmenter": "segmenter"}


def initial(experiment: Experiment, row: str = "r") -> dict[str, str]:
    """Part -> its initial weights in a row of LEARNERS."""
    table = experiment.tables[0]
    return {n: experiment.part(k, n, rows(experiment)[row], table.columns[0]).weights for n, k in PARTS.items()}


def test_weights_reach_the_cam_and_refiners_and_segmenters_of_its_backbone(folder: Path) -> None:
    Path("t.toml").write_text(LEARNERS)
    profile = PROFILE.replace("[stub-nothing]\ndepth = 3\n", "")
    Path("p.toml").write_text(profile)
    imagenet = initial(settle())["cam"]
    assert initial(settle()) == {"cam": imagenet, "stub-learned": "", "stub-maps": "", "stub-segmenter": ""}
    alone = initial(settle(weights="w.pth"))
    assert alone == {"cam": "w.pth", "stub-learned": "", "stub-maps": "", "stub-segmenter": ""}
    Path("p.toml").write_text(
        profile
        + '[stub-learned]\nbackbone = "resnet50"\n[stub-maps]\nbackbone = "resnet50"\n[cam]\nweights = "p.pth"\n'
    )
    given = settle(weights="w.pth")
    assert initial(given) == {"cam": "w.pth", "stub-learned": "", "stub-maps": "w.pth", "stub-segmenter": ""}
    assert initial(given, "own")["stub-maps"] == "mine.pth", "a row's own is stronger"
    told = settle(weights="w.pth", sets=("stub-maps.weights=t.pth",))
    assert initial(told)["stub-maps"] == "t.pth"
    assert initial(settle()) == {"cam": "p.pth", "stub-learned": "", "stub-maps": "", "stub-segmenter": ""}


@pytest.mark.parametrize("where", ["profile", "set", "row"])
def test_weights_go_by_the_backbone_that_the_cam_really_has(folder: Path, where: str) -> None:
    table, profile, sets = LEARNERS, PROFILE.replace("[stub-nothing]\ndepth = 3\n", ""), ()
    if where == "profile":
        profile += '[cam]\nbackbone = "small"\n'
    elif where == "set":
        sets = ("cam.backbone=small",)
    else:
        table = table.replace('cam = "cam"\n', 'cam = "cam"\nset = { "cam.backbone" = "small" }\n', 1)
        table = table.split('[[rows]]\nname = "own"')[0]
    Path("t.toml").write_text(table)
    Path("p.toml").write_text(profile + '[stub-maps]\nbackbone = "small"\n[stub-segmenter]\nbackbone = "resnet50"\n')
    got = initial(settle(weights="w.pth", sets=sets))
    assert got == {"cam": "w.pth", "stub-learned": "", "stub-maps": "w.pth", "stub-segmenter": ""}


def test_an_empty_folder_field_receives_what_the_data_set_brings(folder: Path) -> None:
    photos.write(folder / "photos")
    Path("t.toml").write_text(
        '[[columns]]\nname = "S"\nrefine = ["stub-hints"]\n[[rows]]\nname = "r"\ncam = "stub-cam"\n'
        '[[rows]]\nname = "own"\ncam = "stub-cam"\nset = { "stub-hints.hints" = "mine" }\n'
    )

    def hints(row: str = "r", **options: object) -> str:
        experiment = settle(**({"data_root": "photos"} | options))
        return experiment.part("refiner", "stub-hints", rows(experiment)[row], experiment.tables[0].columns[0]).hints

    Path("p.toml").write_text(photos.SPLITS)
    brought = str(folder / "photos" / "hints")
    assert hints() == brought
    assert hints("own") == "mine"
    assert hints(sets=("stub-hints.hints=told",)) == "told"
    assert hints(dataset="folder") == "", "this data set brings nothing"


def hints_from(folder: Path, word: str) -> str:
    photos.write(folder / "photos")
    Path("t.toml").write_text(
        '[[columns]]\nname = "S"\nrefine = ["stub-hints"]\n[[rows]]\nname = "r"\ncam = "stub-cam"\n'
    )
    Path("p.toml").write_text(
        photos.PROFILE + f'[stub-hints]\nhints = "{word}"\n[stub-photos]\nroot = "{folder / "theirs"}"\n'
    )
    experiment = settle(data_root="photos")
    return experiment.part("refiner", "stub-hints", rows(experiment)["r"], experiment.tables[0].columns[0]).hints


def test_a_folder_field_may_take_what_another_data_set_brings_as_the_profile_describes_it(folder: Path) -> None:
    assert hints_from(folder, "dataset:stub-photos") == str(folder / "theirs" / "hints")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("dataset:stub-phtoos", ["a data set in hints of stub-hints", "'stub-phtoos'", "did you mean 'stub-photos'"]),
        ("dataset:folder", ["a data set that brings hints", "'folder'", "known: none"]),
    ],
)
def test_another_data_set_that_does_not_bring_it(folder: Path, word: str, said: list[str]) -> None:
    with pytest.raises(UsageError) as err:
        hints_from(folder, word)
    for words in said:
        assert words in str(err.value)


@pytest.mark.parametrize(
    ("word", "said"),
    [("trimap", "'trimap'"), ("fg=0.5", "'fg=0.5'"), (".fg=0.5", "'.fg=0.5'"), ("trimap.fg", "'trimap.fg'")],
)
def test_words_that_are_no_set(word: str, said: str) -> None:
    with pytest.raises(UsageError) as err:
        parse_sets([word])
    assert "--set part.field=value" in str(err.value)
    assert said in str(err.value)


def test_sets_keep_signs_in_values_and_drop_spaces() -> None:
    assert parse_sets([" a.b = x=y ", "a.c.d=1"]) == {"a.b": "x=y", "a.c.d": "1"}


def test_an_override_of_what_no_row_uses_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="'knn'"):
        settle(sets=("knn.neighbours=3",))
    with pytest.raises(UsageError, match="each table once"):
        resolve(["t.toml", "t.toml"], Options(profile="p.toml"))


def test_sections_of_parts_to_come_and_of_blocked_plugins_are_let_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle()  # [stub-nothing] is not installed, but a row names it
    Path("p.toml").write_text(PROFILE + "[knn]\nneighbours = [3, 2]\n[stub-noting]\n")
    with pytest.raises(UsageError, match=r"\[stub-noting\]"):
        settle()
    monkeypatch.setenv(BLOCK, "mattings")
    settle()


def test_pseudo_labels_are_made_for_the_split_of_trainings_unless_the_profile_says_another(folder: Path) -> None:
    assert load_profile("p.toml").label_split == "train"
    Path("p.toml").write_text(PROFILE.replace("seeds", 'label_split = "val"\nseeds'))
    profile = load_profile("p.toml")
    assert (profile.fit_split, profile.label_split, profile.split) == ("train", "val", "val")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            'labelsplit = "val"',
            ["[run] of profile 'small' with known keys", "'labelsplit'", "did you mean 'label_split'"],
        ),
        ("label_split = 3", ["label_split of profile 'small' to be a text", "got 3", 'write label_split = "..."']),
        ('label_split = " "', ["label_split of profile 'small' to be a text"]),
    ],
)
def test_a_label_split_that_is_none(folder: Path, line: str, said: list[str]) -> None:
    Path("p.toml").write_text(PROFILE.replace("seeds", f"{line}\nseeds"))
    with pytest.raises(UsageError) as err:
        load_profile("p.toml")
    for words in said:
        assert words in str(err.value)


def test_a_columns_own_fields_are_the_strongest_and_must_reach_something(folder: Path) -> None:
    column = '[[columns]]\nname = "S"\nset = { "stub-cam.gain" = 9, "trimap.fg" = 0.9 }\n'
    Path("t.toml").write_text(column + TABLE.partition('refine = ["stub-shift"]\n')[2])
    experiment = settle(sets=("stub-cam.gain=3",))
    (column_of_table,) = experiment.tables[0].columns
    for row in ("plain", "sharp"):
        assert experiment.part("cam", "stub-cam", rows(experiment)[row], column_of_table).gain == 9
    assert experiment.rule("trimap", rows(experiment)["plain"], column_of_table).fg == 0.9
    Path("t.toml").write_text(Path("t.toml").read_text().replace('stub-cam.gain" = 9', 'stub-cma.gain" = 9'))
    with pytest.raises(UsageError) as err:
        settle()
    assert "set of column 'S' of t to name a part of the table" in str(err.value)
    assert "'stub-cma'" in str(err.value)
    assert "did you mean 'stub-cam'" in str(err.value)


def test_every_profile_of_the_project_can_be_read() -> None:
    for name in profiles():
        profile = load_profile(name)
        assert profile.name == name
        assert profile.seeds


@pytest.mark.parametrize("seeds", [(), (1, 1), (-1,), (True,), (2**32,), "12", (0.5,)])
def test_seeds_that_no_generator_takes(seeds: object) -> None:
    with pytest.raises(UsageError, match="--seed as different whole numbers from 0"):
        check_seeds(seeds, "--seed")
