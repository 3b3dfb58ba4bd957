"""Profile, command line and row: which one wins, and that every override reaches something."""

from __future__ import annotations

import dataclasses
from pathlib import Path

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


def test_every_profile_of_the_project_can_be_read() -> None:
    for name in profiles():
        profile = load_profile(name)
        assert profile.name == name
        assert profile.seeds


@pytest.mark.parametrize("seeds", [(), (1, 1), (-1,), (True,), (2**32,), "12", (0.5,)])
def test_seeds_that_no_generator_takes(seeds: object) -> None:
    with pytest.raises(UsageError, match="--seed as different whole numbers from 0"):
        check_seeds(seeds, "--seed")
