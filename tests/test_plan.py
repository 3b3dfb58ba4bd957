"""Plans: what rows share, what enters a key, who chooses thresholds, and that masks reach scores alone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import photos
import pytest
from PIL import Image

from matlabel_bench import jobs as stage_jobs
from matlabel_bench import plan as plans
from matlabel_bench import registry
from matlabel_bench.config import Options, resolve
from matlabel_bench.errors import UsageError
from matlabel_bench.jobs import Job, items_of
from matlabel_bench.plan import CellPlan, Plan
from matlabel_bench.runner import Runner

Make = Callable[..., Plan]


@pytest.fixture
def make(tmp_path: Path, stubs: None, monkeypatch: pytest.MonkeyPatch) -> Make:
    photos.write(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    Path("p.toml").write_text(photos.PROFILE)

    def make(table: str = photos.TABLE, **options: object) -> Plan:
        Path("t.toml").write_text(table)
        given = {"profile": "p.toml", "data_root": "photos", "store": tmp_path / "store"} | options
        return plans.make(resolve(["t.toml"], Options(**given)))

    return make


def cell(plan: Plan, row: str, column: str = "Seed") -> CellPlan:
    return next(c for c in plan.cells if (c.row.name, c.column.name) == (row, column))


def stages(plan: Plan) -> Counter[str]:
    return Counter(j.stage for j in plan.jobs.values())


def chain(job: Job) -> dict[str, str]:
    """Stage -> key of everything behind a job."""
    return {j.stage: j.key for j in job.upstream()}


# Sharing -------------------------------------------------------------------------------------------------------------


def test_a_shared_prefix_is_one_job(make: Make) -> None:
    plan = make()
    assert stages(plan) == {
        "fit": 1,
        "maps": 2,  # stub-cam once for two rows and four columns, stub-trained once
        "trimap": 2,
        "alpha": 2,
        "threshold": 3,  # one a row, for the one mask-free column
        "refine": 3,
        "score": 7,  # three seeds, three refined, and the trained maps; the other maps are the seed of row `cam`
    }
    order = list(plan.jobs)
    for job in plan.jobs.values():
        assert all(order.index(i.key) < order.index(job.key) for i in job.inputs.values()), "inputs come first"


def test_no_threshold_is_sought_without_masks_where_no_column_asks_for_it(make: Make) -> None:
    table = '[[columns]]\nname = "Seed"\n[[rows]]\nname = "r"\ncam = "stub-cam"\n'
    assert stages(make(table)) == {"maps": 1, "score": 1}


def test_seeds_multiply_what_is_trained_and_nothing_else(make: Make) -> None:
    plan = make(seeds=(0, 1, 2))
    found = stages(plan)
    assert (found["fit"], found["maps"], found["alpha"]) == (3, 4, 4)
    assert len(cell(plan, "trained").scores) == 3
    assert len(cell(plan, "cam").scores) == 1, "nothing random touches it: three seeds would be a false claim"
    assert {j.seed for j in plan.jobs.values() if j.stage == "fit"} == {0, 1, 2}


def test_two_tables_share_one_plan(make: Make, tmp_path: Path) -> None:
    make()
    Path("u.toml").write_text(photos.TABLE)
    options = Options(profile="p.toml", data_root="photos", store=tmp_path / "store")
    both = plans.make(resolve(["t.toml", "u.toml"], options))
    assert list(both.jobs) == list(make().jobs)
    assert len(both.cells) == 32


# Keys ----------------------------------------------------------------------------------------------------------------


def test_what_changes_nothing(make: Make, tmp_path: Path) -> None:
    keys = list(make(sets=("stub-cam.gain=2", "trimap.fg=0.6")).jobs)
    photos.write(tmp_path / "moved")
    for options in (
        {"sets": ("trimap.fg=0.60", "stub-cam.gain=2.0")},
        {"data_root": str(tmp_path / "moved")},
        {"device": "cuda"},
        {"workers": 7},
        {"store": tmp_path / "other"},
        {"out": tmp_path / "out"},
    ):
        assert list(make(**({"sets": ("stub-cam.gain=2", "trimap.fg=0.6")} | options)).jobs) == keys, options


@pytest.mark.parametrize(
    ("sets", "changed"),
    [
        ("stub-cam.gain=2", {"maps", "trimap", "alpha", "score"}),
        ("trimap.fg=0.6", {"trimap", "alpha", "score"}),
        ("stub-matting.moody=true", {"alpha", "score"}),
        ("label.alpha_threshold=0.4", set()),  # a seed is scored at every threshold at once
        ("folder.classes=dog,cat", {"maps", "trimap", "alpha", "score"}),
    ],
)
def test_a_field_changes_its_stage_and_all_behind_it(make: Make, sets: str, changed: set[str]) -> None:
    before, after = chain(cell(make(), "matting").scores[0]), chain(cell(make(sets=(sets,)), "matting").scores[0])
    assert {s for s in before if before[s] != after[s]} == changed


def test_a_fixed_threshold_changes_the_refined_label(make: Make) -> None:
    table = photos.TABLE.replace('"mask-free"', '"fixed"')
    before, after = (
        chain(cell(make(table, sets=s), "matting", "shifted").scores[0]) for s in ((), ("label.alpha_threshold=0.4",))
    )
    assert {s for s in before if before[s] != after[s]} == {"refine", "score"}


def test_the_files_of_a_data_set_are_in_the_keys(make: Make, tmp_path: Path) -> None:
    def keys() -> dict[str, str]:
        return chain(cell(make(), "trained").scores[0])

    root, seen = tmp_path / "photos", [keys()]
    Image.fromarray(np.ones((20, 24), np.uint8)).save(root / "masks/a.png")
    seen.append(keys())
    assert {s for s in seen[0] if seen[0][s] != seen[1][s]} == {"score"}, "a corrected mask recomputes scores alone"
    (root / "tags.csv").write_text("a,cat dog\nb b,cat dog\nç,dog\n", encoding="utf-8")
    seen.append(keys())
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(root / "images/a.png")
    seen.append(keys())
    for before, after in pairwise(seen[1:]):
        assert all(before[s] != after[s] for s in before), "an image or a tag changes everything"


def test_versions_are_in_the_keys(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    before = chain(cell(make(), "matting").scores[0])
    cls = registry.start()[0].get("matting", "stub-matting").cls
    monkeypatch.setattr(cls, "version", 2)
    after = chain(cell(make(), "matting").scores[0])
    assert {s for s in before if before[s] != after[s]} == {"alpha", "score"}
    monkeypatch.setattr(stage_jobs, "VERSION", stage_jobs.VERSION + 1)
    third = chain(cell(make(), "matting").scores[0])
    assert all(after[s] != third[s] for s in after)


def test_seeds_and_parts_of_one_shape_have_different_keys(make: Make) -> None:
    one, other = (chain(cell(make(seeds=(s,)), "trained").scores[0]) for s in (0, 1))
    assert all(one[s] != other[s] for s in one)
    assert len({*chain(cell(make(), "cam").scores[0]).values(), *one.values()}) == 2 + len(one)


# Thresholds and masks ------------------------------------------------------------------------------------------------


def test_each_rule_has_its_own_chooser(make: Make) -> None:
    plan = make()
    for row, column, rule, fixed, chooser in (
        ("cam", "Seed", "oracle", None, "score"),  # the protocol of maps
        ("matting", "Seed", "fixed", 0.5, None),  # the protocol of alphas
        ("cam", "Seed (fixed)", "fixed", 0.15, None),
        ("matting", "Seed (oracle)", "oracle", None, "score"),
        ("cam", "shifted", "mask-free", None, "threshold"),
    ):
        got = cell(plan, row, column)
        assert (got.rule, got.fixed) == (rule, fixed)
        assert [j.stage for j in got.choosers] == ([chooser] if chooser else [])
    own = make(photos.TABLE.replace('name = "cam"\ncam', 'threshold = "fixed"\nname = "cam"\ncam'))
    assert cell(own, "cam").rule == "fixed", "a row may say its own protocol"


def test_supervision_says_who_saw_masks(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make()
    assert cell(plan, "cam", "Seed").supervision == "tags+masks(threshold)"
    assert cell(plan, "matting", "Seed").supervision == "tags"
    assert cell(plan, "cam", "shifted").supervision == "tags"
    cls = registry.start()[0].get("refiner", "stub-shift").cls
    monkeypatch.setattr(cls, "supervision", ("tags", "saliency"), raising=False)
    plan = make()
    assert cell(plan, "cam", "shifted").supervision == "tags+saliency"
    assert cell(plan, "cam", "Seed").supervision == "tags+masks(threshold)", "of the parts this cell uses"


def test_only_a_score_can_reach_a_mask(make: Make) -> None:
    rows = photos.TABLE.replace('"mask-free"', '"oracle"').split('[[rows]]\nname = "trained"')[0]
    plan = make(rows)
    runner = Runner(plan, print)
    runner.run()
    assert runner.failures == {}
    assert stages(plan) == {"maps": 1, "trimap": 1, "alpha": 1, "refine": 2, "score": 4}
    for job in plan.jobs.values():
        task = runner._task(job, plan.slot(job).files)
        assert (task.dataset is not None) == (job.stage == "score")
        assert (task.inputs.threshold is not None) == (job.stage == "refine"), (
            "of an oracle a refiner learns one number"
        )
    parts = [j.part for j in plan.jobs.values() if j.part is not None]
    assert not any(isinstance(p, type(plan.experiment.dataset)) for p in parts)


def test_a_mask_free_threshold_does_not_depend_on_masks(make: Make) -> None:
    for job in make().jobs.values():
        if job.stage not in ("score", "fit"):
            assert not [j for j in job.upstream() if j.stage == "score"], job.label


# Rows that cannot be computed ----------------------------------------------------------------------------------------


def test_rows_without_parts_make_no_jobs(make: Make) -> None:
    row = '[[rows]]\nname = "{}"\ncam = "{}"\n{}'
    more = row.format("typo", "stub-cma", "") + row.format("paper", "recma", 'published = { "Seed" = 1 }\n')
    more += row.format("needy", "stub-cam", 'needs = ["stub-shfit"]\n')
    plan = make(photos.TABLE + more)
    assert len(plan.jobs) == len(make().jobs)
    assert cell(plan, "known").scores == ()
    assert cell(plan, "known").missing == ""
    assert cell(plan, "typo").missing.startswith("cam 'stub-cma' is not installed; did you mean 'stub-cam'")
    assert cell(plan, "paper").missing == "cam 'recma' is not installed", "the paper's rows wait for their parts"
    assert cell(plan, "needy").missing.startswith("refiner 'stub-shfit' is not installed")


def test_labels_are_planned_without_a_score(make: Make, tmp_path: Path) -> None:
    recipe = '[[columns]]\nname = "m"\nrefine = ["stub-shift"]\nthreshold = "{}"\n[[rows]]\nname = "r"\n{}'
    for rule, want in (("mask-free", {"maps", "threshold", "refine"}), ("fixed", {"maps", "refine"})):
        Path("r.toml").write_text(recipe.format(rule, 'cam = "stub-cam"\n'))
        options = Options(profile="p.toml", data_root="photos", store=tmp_path / "store")
        plan, job = plans.labels(resolve(["r.toml"], options))
        assert {j.stage for j in plan.jobs.values()} == want
        assert job.stage == "refine"
    for rule in ("oracle", "protocol"):
        Path("r.toml").write_text(recipe.format(rule, 'cam = "stub-cam"\n'))
        with pytest.raises(UsageError, match="a threshold without masks"):
            plans.labels(resolve(["r.toml"], options))


def test_refiners_follow_one_another(make: Make) -> None:
    plan = make(photos.TABLE.replace('["stub-shift"]', '["stub-shift", "stub-shift"]'))
    score = cell(plan, "cam", "shifted").scores[0]
    second = score.inputs["labels"]
    first = second.inputs["labels"]
    assert [second.stage, first.stage] == ["refine", "refine"]
    assert set(second.inputs) == {"labels"}
    assert set(first.inputs) == {"maps", "threshold"}
    assert first.key != second.key


def test_items_of_a_training_are_image_passes(make: Make) -> None:
    jobs = {j.stage: j for j in make(sets=("stub-trained.epochs=7",)).jobs.values()}
    assert items_of(jobs["fit"]) == 21
    assert items_of(jobs["maps"]) == 3
    assert jobs["fit"].label == "fit stub-trained, seed 0"
    assert dataclasses.asdict(make().slot(jobs["maps"]))["stage"] == "maps"
