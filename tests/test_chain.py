"""Chains: which jobs stand behind a cell with trainings, segmentation, times, uncertain trimaps; and dashes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import photos
import pytest

from matlabel_bench import fields, results, tables
from matlabel_bench import plan as plans
from matlabel_bench.config import Options, resolve
from matlabel_bench.errors import DataError, UsageError
from matlabel_bench.forecast import forecast
from matlabel_bench.handover import output
from matlabel_bench.images import read_label
from matlabel_bench.jobs import Job
from matlabel_bench.plan import CellPlan, Plan
from matlabel_bench.planes import read_planes
from matlabel_bench.runner import Runner

Make = Callable[..., Plan]
CAM = '[[rows]]\nname = "cam"\ncam = "stub-cam"\n'
MATTED = '[[rows]]\nname = "matted"\ncam = "stub-cam"\nmatting = "stub-learned"\n'
TRUTH = '[[rows]]\nname = "truth"\nlabels = "masks"\n'
SEGMENT = 'segment = "stub-segmenter"\n'


def column(*lines: str, name: str = "C") -> str:
    return "\n".join(["[[columns]]", f'name = "{name}"', *lines, ""])


@pytest.fixture
def make(tmp_path: Path, stubs: None, monkeypatch: pytest.MonkeyPatch) -> Make:
    photos.write_splits(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)

    def make(table: str, profile: str = photos.SPLITS, **options: object) -> Plan:
        return plans.make(photos.experiment(table, profile, **options))

    return make


def only(plan: Plan, row: str = "") -> CellPlan:
    """The one cell of a row; without a name, of the plan."""
    (cell,) = (c for c in plan.cells if row in ("", c.row.name))
    return cell


def stages(plan: Plan) -> Counter[str]:
    return Counter(f"{j.stage} {j.split.name}" for j in plan.jobs.values())


def walk(job: Job) -> dict[str, Job]:
    """What a job starts from, by name, all the way up."""
    return {name: other for name, first in job.inputs.items() for name, other in [(name, first), *walk(first).items()]}


# Segmentation --------------------------------------------------------------------------------------------------------


def test_a_segmenter_learns_from_labels_on_the_label_split_and_is_scored_on_another(make: Make) -> None:
    plan = make(column(SEGMENT) + CAM)
    assert stages(plan) == {
        "maps train": 1,
        "threshold train": 1,
        "label train": 1,
        "fit train": 1,
        "segment val": 1,
        "score val": 1,
    }
    cell = only(plan)
    (score,) = cell.scores
    segment = score.inputs["labels"]
    fit = segment.inputs["fit"]
    label = fit.inputs["labels"]
    assert [j.stage for j in (score, segment, fit, label)] == ["score", "segment", "fit", "label"]
    assert (set(score.inputs), set(segment.inputs), set(fit.inputs)) == ({"labels"}, {"fit"}, {"labels"})
    assert set(label.inputs) == {"maps", "threshold"}
    assert (fit.name, fit.seed, segment.name, segment.seed) == ("stub-segmenter", 5, "stub-segmenter", None)
    assert (cell.rule, cell.fixed, cell.supervision) == ("mask-free", None, "tags")
    assert (cell.files, cell.seeds, cell.choosers, cell.maps) == ((segment,), (), (), ())


def test_labels_are_those_of_the_last_refiner_at_the_protocols_threshold(make: Make) -> None:
    refined = make(column(SEGMENT, 'refine = ["stub-shift"]') + CAM)
    label = only(refined).scores[0].inputs["labels"].inputs["fit"].inputs["labels"]
    assert (label.stage, label.name, label.split.name) == ("refine", "stub-shift", "train")
    learned = make(column(SEGMENT, 'refine = ["stub-maps"]') + CAM)
    assert Counter(j.stage for j in learned.jobs.values())["fit"] == 2
    label = only(learned).scores[0].inputs["labels"].inputs["fit"].inputs["labels"]
    assert (label.name, label.split.name, set(label.inputs)) == ("stub-maps", "train", {"maps", "fit"})
    matted = make(column(SEGMENT) + MATTED)
    label = only(matted).scores[0].inputs["labels"].inputs["fit"].inputs["labels"]
    assert (label.stage, label.spec["threshold"], set(label.inputs)) == ("label", 0.5, {"maps", "alpha"})
    assert (only(matted).rule, only(matted).fixed) == ("fixed", 0.5)
    assert stages(matted)["fit train"] == 2, "the matting and the segmenter"


def test_labels_come_from_the_profiles_label_split(make: Make) -> None:
    profile = photos.SPLITS.replace("fit_split", 'label_split = "test"\nfit_split')
    plan = make(column(SEGMENT) + MATTED, profile)
    splits = {f"{j.stage} {j.name}".strip(): j.split.name for j in plan.jobs.values()}
    assert splits == {
        "fit stub-learned": "train",
        "maps stub-cam": "test",
        "trimap": "test",
        "alpha stub-learned": "test",
        "label": "test",
        "fit stub-segmenter": "test",
        "segment stub-segmenter": "val",
        "score": "val",
    }


@pytest.mark.parametrize("where", ["column", "row"])
def test_no_training_learns_from_labels_of_an_oracle(make: Make, where: str) -> None:
    table = column(SEGMENT, 'threshold = "oracle"') + CAM
    if where == "row":
        table = column(SEGMENT) + CAM + 'threshold = "oracle"\n'
    plan = make(table)
    assert only(plan).missing == "labels to learn from are made without masks, and its threshold is searched on them"
    assert not plan.jobs, "nothing is computed for it"


def test_a_segmenter_without_masks_to_score_leaves_its_files(make: Make) -> None:
    plan = make(column(SEGMENT, 'split = "test"') + CAM)
    cell = only(plan)
    assert stages(plan)["segment test"] == 1
    assert "score" not in {j.stage for j in plan.jobs.values()}
    assert (cell.split, cell.scores, [j.stage for j in cell.files]) == ("test", (), ["segment"])
    assert cell.jobs == list(cell.files)


def test_seeds_train_segmenters_of_their_own_on_the_same_labels(make: Make) -> None:
    plan = make(column(SEGMENT) + CAM, seeds=(0, 1, 2))
    assert stages(plan) == {
        "maps train": 1,
        "threshold train": 1,
        "label train": 1,
        "fit train": 3,
        "segment val": 3,
        "score val": 3,
    }
    assert len(only(plan).scores) == len(only(plan).files) == 3


def test_another_split_is_scored_where_none_is_insisted_on(make: Make) -> None:
    plan = make(column(name="C") + column('split = "val"', name="V") + CAM, split="train")
    assert stages(plan)["score train"] == stages(plan)["score val"] == 1
    assert " --split train " in results.command(plan.experiment, plan.experiment.tables[0]) + " "
    with pytest.raises(DataError, match="nowhere"):
        make(column() + CAM, split="nowhere")


# Stems, and mattings without a trimap ---------------------------------------------------------------------------------


def test_trainings_that_begin_alike_share_their_stem(make: Make) -> None:
    """Two parts of one stem train it once; a part's own stem is another."""
    rows = "".join(
        f'[[rows]]\nname = "{gain}"\ncam = "stub-onward"\nset = {{ "stub-onward.gain" = {gain} }}\n' for gain in (1, 2)
    )
    plan = make(column() + rows)
    fits = [j for j in plan.jobs.values() if j.stage == "fit"]
    assert [(j.name, j.seed) for j in fits] == [("stub-trained", 5), ("stub-onward", 5), ("stub-onward", 5)]
    stem = fits[0]
    assert all(set(j.inputs) == {"stem"} and j.inputs["stem"] is stem for j in fits[1:])
    longer = make(column() + rows, sets=("stub-onward.steps_before=4",))
    assert {j.key for j in longer.jobs.values() if j.stage == "fit"}.isdisjoint(plan.jobs)


def test_a_matting_that_takes_maps_has_no_trimap_and_the_threshold_of_maps(make: Make) -> None:
    soft = '[[rows]]\nname = "soft"\ncam = "stub-cam"\nmatting = "stub-soft"\n'
    plan = make(column() + soft)
    assert stages(plan) == {"maps val": 1, "alpha val": 1, "score val": 2}
    cell = only(plan)
    assert set(cell.scores[0].inputs["alpha"].inputs) == {"maps"}
    assert (cell.rule, cell.matting) == ("oracle", "stub-soft")
    assert only(make(column() + MATTED)).rule == "fixed"
    free = make(column('threshold = "mask-free"') + soft)
    assert set(only(free).choosers[0].inputs) == {"maps", "alpha"}
    with pytest.raises(UsageError, match=r"(?s)a matting that takes a trimap, for trimap = 'uncertainty'.*stub-soft"):
        make(column() + soft + 'trimap = "uncertainty"\n')


def test_labels_of_soft_alphas_are_made_at_their_own_threshold(make: Make) -> None:
    """Otsu's on the alphas, not on the maps, and not one half."""
    soft = '[[rows]]\nname = "soft"\ncam = "stub-cam"\nmatting = "stub-soft"\n'
    make(column() + soft)
    plan, job = plans.labels(photos.experiment(column('threshold = "mask-free"') + soft, photos.SPLITS))
    assert (job.stage, set(job.inputs), set(job.inputs["threshold"].inputs)) == (
        "label",
        {"maps", "alpha", "threshold"},
        {"maps", "alpha"},
    )
    runner = Runner(plan, lambda line: None)
    runner.run()
    assert not runner.failures
    level = json.loads((plan.slot(job.inputs["threshold"]).files / "threshold.json").read_text())["threshold"]
    sample = next(s for s in job.split if len(s.tags) == 1)
    alpha = read_planes(output("alpha", plan.slot(job.inputs["alpha"]).files, sample.id))[0][0].astype(np.float32) / 255
    label = read_label(output("label", plan.slot(job).files, sample.id), 254)
    np.testing.assert_array_equal(label == sample.tags[0], alpha > np.float32(level))


@pytest.mark.parametrize("name", sorted(p.stem for p in (tables.home() / "recipes").glob("*.toml")))
def test_every_recipe_names_parts_there_are(name: str) -> None:
    (table,) = resolve([str(tables.recipe(name))], Options(profile="tiny")).tables
    assert len(table.rows) == len(table.columns) == 1 and table.columns[0].threshold == "mask-free"


# Trained refiners ----------------------------------------------------------------------------------------------------


def test_a_refiner_that_takes_maps_has_no_threshold_but_its_own(make: Make) -> None:
    for rule in ("protocol", "mask-free", "oracle", "fixed"):
        plan = make(column('refine = ["stub-maps"]', f'threshold = "{rule}"') + CAM)
        assert stages(plan) == {"maps val": 1, "maps train": 1, "fit train": 1, "refine val": 1, "score val": 2}
        cell = only(plan)
        assert (cell.rule, cell.fixed, cell.choosers, cell.supervision) == ("fixed", 0.4, (), "tags")
        refine = cell.scores[0].inputs["labels"]
        assert set(refine.inputs) == {"maps", "fit"}
        assert set(refine.inputs["fit"].inputs) == {"maps"}
        assert refine.inputs["fit"].inputs["maps"] is not refine.inputs["maps"], "each from its own split"
    told = make(column('refine = ["stub-maps"]') + CAM, sets=("stub-maps.threshold=0.6",))
    assert only(told).fixed == 0.6


def test_a_sweep_over_an_open_field_trains_once(make: Make) -> None:
    sweep = "".join(
        column('refine = ["stub-maps"]', f'set = {{ "stub-maps.threshold" = {t} }}', name=f"C{t}")
        for t in (0.2, 0.4, 0.6)
    )
    plan = make(sweep + CAM)
    found = stages(plan)
    assert (found["fit train"], found["refine val"], found["score val"]) == (1, 3, 4)
    other = make(column('refine = ["stub-maps"]', 'set = { "stub-maps.backbone" = "other" }') + CAM)
    assert {j.key for j in other.jobs.values() if j.stage == "fit"}.isdisjoint(plan.jobs)
    segment = "".join(column(SEGMENT, f'set = {{ "stub-segmenter.level" = {t} }}', name=f"C{t}") for t in (0, 100, 200))
    found = stages(make(segment + CAM))
    assert (found["fit train"], found["segment val"]) == (1, 3)


def test_a_refiner_that_takes_scores_is_trained_at_the_rules_threshold(make: Make) -> None:
    """The mask-free one is chosen on each split by itself; an oracle's, which needs masks, is taken over."""
    free = make(column('refine = ["stub-scores"]', 'threshold = "mask-free"') + CAM)
    refine = only(free).scores[0].inputs["labels"]
    fit = refine.inputs["fit"]
    for job, split in ((refine, "val"), (fit, "train")):
        assert (job.inputs["threshold"].stage, job.inputs["threshold"].split.name) == ("threshold", split)
        assert job.inputs["maps"].split.name == split
    oracle = only(make(column('refine = ["stub-scores"]', 'threshold = "oracle"') + CAM)).scores[0].inputs["labels"]
    assert oracle.inputs["threshold"] is oracle.inputs["fit"].inputs["threshold"]
    assert (oracle.inputs["threshold"].stage, oracle.inputs["threshold"].split.name) == ("score", "val")
    fixed = make(column('refine = ["stub-scores"]', 'threshold = "fixed"') + CAM)
    fit = only(fixed).scores[0].inputs["labels"].inputs["fit"]
    assert (set(fit.inputs), fit.spec["threshold"]) == ({"maps"}, 0.15)
    swept = make(column('refine = ["stub-scores"]', 'threshold = "fixed"') + CAM, sets=("label.map_threshold=0.2",))
    assert only(swept).scores[0].inputs["labels"].inputs["fit"].key != fit.key, "it learned from other scores"


def test_a_later_refiner_learns_from_the_label_before_it_on_the_label_split(make: Make) -> None:
    row = '[[rows]]\nname = "cam"\ncam = "stub-cam"\nrefine = ["stub-shift"]\n'
    for second, takes in (("stub-scores", "scores"), ("stub-maps", "maps")):
        plan = make(column(f'refine = ["{second}"]', 'threshold = "fixed"') + row)
        cell = only(plan)
        refine = cell.scores[0].inputs["labels"]
        first, fit = refine.inputs["labels"], refine.inputs["fit"]
        assert cell.refine == ("stub-shift", second), "the row's own come first"
        assert (set(refine.inputs), set(fit.inputs)) == ({"labels", "fit"}, {"labels"}), takes
        assert (first.name, first.split.name) == ("stub-shift", "val")
        learned = fit.inputs["labels"]
        assert (learned.stage, learned.name, learned.split.name) == ("refine", "stub-shift", "train")
        assert (learned.spec["threshold"], refine.spec["threshold"], fit.spec["threshold"]) == (0.15, None, None)


def test_a_trained_matting_learns_on_the_fit_split_for_every_split(make: Make) -> None:
    plan = make(column() + MATTED + MATTED.replace("matted", "again") + 'trimap = "uncertainty"\n')
    fits = [j for j in plan.jobs.values() if j.stage == "fit"]
    assert [(j.name, j.split.name, j.inputs) for j in fits] == [("stub-learned", "train", {})]
    for job in (j for j in plan.jobs.values() if j.stage == "alpha"):
        assert (set(job.inputs), job.inputs["fit"]) == ({"maps", "trimap", "fit"}, fits[0])


# Fully supervised ----------------------------------------------------------------------------------------------------


def test_true_masks_are_labels_and_only_they_and_scores_see_the_data_set(make: Make) -> None:
    plan = make(column(SEGMENT) + TRUTH)
    assert stages(plan) == {"truth train": 1, "fit train": 1, "segment val": 1, "score val": 1}
    cell = only(plan)
    assert (cell.rule, cell.fixed, cell.matting, cell.refine) == ("none", None, None, ())
    assert cell.supervision == "tags+masks"
    runner = Runner(plan, print)
    for job in plan.jobs.values():
        task = runner._task(job, plan.slot(job).files)
        assert (task.dataset is not None) == (job.stage in ("score", "truth")), job.stage
    assert not any(isinstance(j.part, type(plan.experiment.dataset)) for j in plan.jobs.values())


def test_a_corrected_mask_changes_the_labels_made_of_it(make: Make, tmp_path: Path) -> None:
    from PIL import Image

    def keys() -> dict[str, str]:
        return {j.stage: j.key for j in make(column(SEGMENT) + TRUTH).jobs.values()}

    before = keys()
    Image.new("L", (24, 20), 1).save(tmp_path / "photos/masks/a.png")  # of train alone
    after = keys()
    assert before["truth"] != after["truth"]
    assert before["fit"] != after["fit"]
    pseudo = [j.key for j in make(column(SEGMENT) + CAM).jobs.values() if j.stage in ("label", "fit")]
    Image.new("L", (24, 20), 2).save(tmp_path / "photos/masks/a.png")
    assert [j.key for j in make(column(SEGMENT) + CAM).jobs.values() if j.stage in ("label", "fit")] == pseudo


# Missing -------------------------------------------------------------------------------------------------------------


def test_why_a_cell_cannot_be_computed(make: Make) -> None:
    table = (
        column() + column(SEGMENT, 'split = "tset"', name="split") + column('segment = "stub-segmneter"', name="net")
    )
    plan = make(table + CAM + TRUTH)
    why = {(c.row.name, c.column.name): c.missing for c in plan.cells}
    assert why == {
        ("cam", "C"): "",
        ("cam", "split"): "the data set has no split 'tset'",
        ("cam", "net"): why["cam", "net"],
        ("truth", "C"): "the masks are its labels: there is nothing to score",
        ("truth", "split"): "the data set has no split 'tset'",
        ("truth", "net"): why["truth", "net"],
    }
    for row in ("cam", "truth"):
        assert why[row, "net"].startswith("segmenter 'stub-segmneter' is not installed; did you mean 'stub-segmenter'")
    assert stages(plan) == {"maps val": 1, "score val": 1}, "nothing is computed for a dash"
    assert next(c for c in plan.cells if c.column.name == "split").split == "tset"


def test_true_masks_that_lack_on_the_label_split_are_a_dash(make: Make) -> None:
    profile = photos.SPLITS.replace("fit_split", 'label_split = "test"\nfit_split')
    plan = make(column(SEGMENT) + TRUTH + CAM, profile)
    assert only(plan, "truth").missing == ("it needs a mask for every image of split 'test': 2 without, e.g. d, e")
    assert only(plan, "cam").missing == "", "pseudo-labels need none"


def test_a_column_cannot_score_a_seed_without_masks(make: Make) -> None:
    with pytest.raises(DataError, match=r"a mask for each of the 2 images of split 'test'"):
        make(column('split = "test"') + CAM)


def test_a_needed_folder_that_is_absent_is_found_before_anything_runs(make: Make, tmp_path: Path) -> None:
    table = column('refine = ["stub-hints"]', 'threshold = "fixed"') + CAM
    with pytest.raises(UsageError) as err:
        make(table)
    assert "hints to name a readable folder" in str(err.value)
    assert f"{tmp_path / 'photos' / 'hints'} (no such folder)" in str(err.value)
    (tmp_path / "photos/hints").mkdir()
    keys = list(make(table).jobs)
    (tmp_path / "photos").rename(tmp_path / "moved")
    assert list(make(table, data_root="moved").jobs) == keys, "what a folder holds counts, not where it lies"
    (tmp_path / "moved/hints/a.txt").write_text("1")
    fields._digest_folder.cache_clear()  # a folder is read once in a process
    other = make(table, data_root="moved")
    assert Counter(j.stage for k, j in other.jobs.items() if k not in keys) == {"refine": 1, "score": 1}
    assert only(other).supervision == "tags+hints"


# Uncertain trimaps ---------------------------------------------------------------------------------------------------


def test_an_uncertain_trimap_asks_for_views(make: Make) -> None:
    row = '[[rows]]\nname = "matted"\ncam = "stub-cam"\nmatting = "stub-matting"\n'
    usual, uncertain = (make(column() + row + more) for more in ("", 'trimap = "uncertainty"\n'))
    assert stages(usual) == {"maps val": 1, "trimap val": 1, "alpha val": 1, "score val": 2}
    assert stages(uncertain) == stages(usual) + Counter({"views val": 1})
    behind = walk(only(uncertain).scores[0])
    assert set(behind["trimap"].inputs) == {"maps", "views"}
    assert (behind["trimap"].name, behind["views"].name) == ("uncertainty", "stub-cam")
    assert make(column() + row + 'trimap = "thresholds"\n').jobs.keys() == usual.jobs.keys()
    swept = make(column() + row + 'trimap = "uncertainty"\n', sets=("uncertainty.z=2", "trimap.fg=0.6"))
    changed = Counter(j.stage for k, j in swept.jobs.items() if k not in uncertain.jobs)
    assert changed == {"trimap": 1, "alpha": 1, "score": 1}, "thresholds of equation 9 play no part"


def test_a_cam_that_goes_by_ids_cannot_be_asked_about_views(make: Make) -> None:
    row = '[[rows]]\nname = "r"\ncam = "stub-id-cam"\nmatting = "stub-matting"\n'
    assert stages(make(column() + row))["maps val"] == 1
    with pytest.raises(UsageError) as err:
        make(column() + row + 'trimap = "uncertainty"\n')
    assert str(err.value) == (
        "expected a cam that can be asked about altered images\n     got stub-id-cam, which goes by ids\n"
        '  remedy take another cam for the row, or trimap = "thresholds"'
    )


# Seconds and columns -------------------------------------------------------------------------------------------------


def test_a_column_of_seconds_times_trained_parts_and_makes_no_score(make: Make) -> None:
    plan = make(column('metric = "seconds"') + CAM + MATTED)
    assert stages(plan) == {"speed val": 2, "fit train": 1}
    for row, inputs, name in (("cam", set(), "stub-cam"), ("matted", {"matting"}, "stub-cam + stub-learned")):
        cell = only(plan, row)
        assert ([j.name for j in cell.scores], set(cell.scores[0].inputs)) == ([name], inputs)
        assert (cell.rule, cell.fixed, cell.supervision) == ("none", None, "tags")
        assert (cell.choosers, cell.seeds, cell.maps, cell.files) == ((), (), (), ())
    speed = only(plan, "matted").scores[0]
    assert speed.key != only(make(column('metric = "seconds"') + MATTED, device="cuda")).scores[0].key
    assert speed.key != only(make(column('metric = "seconds"') + MATTED, sets=("trimap.fg=0.6",))).scores[0].key
    trained = make(column('metric = "seconds"') + MATTED.replace("stub-cam", "stub-trained"))
    assert set(only(trained).scores[0].inputs) == {"fit", "matting"}
    assert {f["stage"] for f in forecast(trained)} == {"fit", "speed"}


def test_an_uncertain_trimap_is_not_timed_as_if_it_were_another(make: Make) -> None:
    plan = make(column('metric = "seconds"') + MATTED + 'trimap = "uncertainty"\n')
    assert only(plan).missing == "only trimaps by thresholds are timed"
    assert plan.jobs == {}


@pytest.mark.parametrize(
    ("line", "got"), [(SEGMENT, "segment = 'stub-segmenter'"), ('metric = "seconds"', "metric = 'seconds'")]
)
def test_a_recipe_that_asks_for_more_than_labels_is_refused(make: Make, line: str, got: str) -> None:
    with pytest.raises(UsageError) as err:
        plans.labels(photos.experiment(column(line) + MATTED, photos.SPLITS))
    assert str(err.value) == f"expected column 'C' of recipe 't' to make labels\n     got {got}\n  remedy take it out"
    plan, job = plans.labels(photos.experiment(column('refine = ["stub-maps"]') + MATTED, photos.SPLITS))
    assert (job.stage, job.split.name, job.inputs["fit"].split.name) == ("refine", "val", "train")
    assert "score" not in {j.stage for j in plan.jobs.values()}


def test_a_columns_matting_is_for_rows_without_their_own(make: Make) -> None:
    plan = make(column('matting = "stub-matting"', 'set = { "stub-matting.moody" = true }') + CAM + MATTED)
    alphas = {c.row.name: walk(c.scores[0])["alpha"] for c in plan.cells}
    assert {n: j.name for n, j in alphas.items()} == {"cam": "stub-matting", "matted": "stub-learned"}
    assert alphas["cam"].part.moody is True
    assert {c.row.name: c.matting for c in plan.cells} == {"cam": "stub-matting", "matted": "stub-learned"}


# Splits that overlap -------------------------------------------------------------------------------------------------


def test_stages_of_an_image_are_akin_whatever_the_split(make: Make) -> None:
    plan = make(column(SEGMENT, name="S") + column() + MATTED)
    by = {(j.stage, j.split.name): j for j in plan.jobs.values()}
    for stage in ("maps", "trimap", "alpha"):
        one, other = by[stage, "train"], by[stage, "val"]
        assert one.key != other.key
        assert one.kin == other.kin
    assert len({by[s, "val"].kin for s in ("maps", "trimap", "alpha", "score", "segment")}) == 5
    other = make(column() + MATTED, sets=("trimap.fg=0.6",))
    kins = {j.stage: j.kin for j in other.jobs.values()}
    assert kins["maps"] == by["maps", "val"].kin
    assert kins["trimap"] != by["trimap", "val"].kin
    assert kins["alpha"] != by["alpha", "val"].kin
