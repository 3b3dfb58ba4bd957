"""The project's tables hold what the paper and its supplement print: rows, numbers, supervision and parts.

The numbers here were typed from the paper a second time, apart from the files they check.
"""

from __future__ import annotations

import pytest

from matlabel_bench.tables import Row, load_table, tables

# Rows as printed, numbers as printed, their sum.
PRINTED = {
    "table1": (13, 30, 1807.8),
    "table2": (26, 52, 3592.7),
    "table3": (11, 11, 434.3),
    "table4": (5, 5, 266.9),
    "tableS1": (6, 6, 366.7),
    "tableS2": (3, 6, 329.6),
    "tableS3": (4, 4, 274.0),
    "tableS4": (18, 18, 991.6),
    "tableS5": (5, 5, 287.6),
    "tableS6": (4, 8, 225.98),
    "figureS1": (7, 1, 58.0),
    "figureS3": (5, 1, 62.3),
    "figure2": (3, 3, 168.3),
    "figureS2": (3, 3, 168.3),
    "figureS4": (3, 3, 168.3),
}

# Per row, in the order of the table's columns; None where the paper prints a dash.
NUMBERS: dict[str, dict[str, list[float | None]]] = {
    "table1": {
        "CAM": [48.0, None, None],
        "IRN": [48.8, 53.7, 66.3],
        "ReCAM": [54.8, 60.4, 69.7],
        "ESOL": [53.6, 61.4, 68.7],
        "D2CAM only": [58.0, 63.9, 71.4],
        "Mat-Label w/ ReCAM": [56.3, 63.1, 71.0],
        "Mat-Label (ours)": [62.3, 65.8, 72.9],
    },
    "table2": {
        "SEAM": [64.5, 65.7],
        "ReCAM (I.)": [68.5, 68.4],
        "ESOL (I.)": [69.9, 69.3],
        "D2CAM only": [71.2, 70.7],
        "Mat-Label w/ ReCAM": [70.3, 70.0],
        "Mat-Label (I.)": [73.0, 72.7],
        "DSRG": [61.4, 63.2],
        "AdvCAM (I.+S.)": [71.3, 71.2],
        "RCA": [72.2, 72.8],
        "ESOL (I.+S.)": [71.1, 70.4],
        "Mat-Label (I.+S.)": [73.3, 74.0],
    },
    "table3": {
        "IRN": [41.4],
        "ADL": [30.8],
        "ReCAM": [42.9],
        "D2CAM only": [44.0],
        "Mat-Label w/ ReCAM": [43.8],
        "Mat-Label (ours)": [45.6],
    },
    "table4": {
        "CAM": [48.0],
        "L_d2": [53.7],
        "L_d2 + L_area": [50.4],
        "L_d2 + L_ma": [56.8],
        "L_d2 + L_ma + L_oe": [58.0],
    },
    "tableS1": {
        "D2CAM (Baseline)": [58.0],
        "+ Closed Form Matting": [61.4],
        "+ LBDM": [61.8],
        "+ RW": [61.3],
        "+ MatteFormer": [61.9],
        "+ KNN Matting": [62.3],
    },
    "tableS2": {"CAM": [48.0, 50.2], "ReCAM": [54.8, 56.3], "D2CAM (ours)": [58.0, 62.3]},
    "tableS3": {
        "+ CRF": [63.9],
        "+ CRF + IRN": [71.4],
        "+ CRF + Mat-Label": [65.8],
        "+ CRF + IRN + Mat-Label": [72.9],
    },
    "tableS4": {
        "(0.50, 0.00, 0.00)": [53.7],
        "(1.00, 0.00, 0.00)": [49.6],
        "(0.50, 0.75, 0.00)": [54.3],
        "(0.50, 2.00, 0.00)": [56.8],
        "(0.50, 2.25, 0.00), printed 0.25": [56.2],
        "(0.50, 2.50, 0.00), printed 0.25": [55.3],
        "(0.50, 2.00, 0.50)": [58.0],
        "(0.50, 2.00, 1.00)": [57.2],
    },
    "tableS5": {"0.000": [57.4], "0.025": [57.7], "0.050": [58.0], "0.075": [57.6], "0.100": [56.9]},
    "tableS6": {"CAM": [0.36, 48.0], "ReCAM": [0.71, 54.8], "D2CAM": [0.39, 58.0], "Mat-Label": [1.42, 62.3]},
    "figureS1": {"0.20": [58.0]},
    "figureS3": {"0.75": [None, None, 62.3]},
}


def rows(name: str) -> dict[str, Row]:
    return {r.name: r for r in load_table(name).rows}


def test_every_table_and_figure_of_the_paper_is_there() -> None:
    assert set(tables()) == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_rows_and_numbers_are_as_many_as_printed_and_have_their_sum(name: str) -> None:
    printed = [r for r in load_table(name).rows if not r.extension]
    numbers = [n for r in printed for n in r.published.values()]
    assert (len(printed), len(numbers), round(sum(numbers), 2)) == PRINTED[name]


@pytest.mark.parametrize(("name", "row"), [(t, r) for t, found in NUMBERS.items() for r in found])
def test_numbers_are_the_papers(name: str, row: str) -> None:
    table = load_table(name)
    (found,) = (r for r in table.rows if r.name == row)
    columns = [c.name for c in table.columns]
    expected = {c: n for c, n in zip(columns, NUMBERS[name][row], strict=False) if n is not None}
    assert dict(found.published) == expected


@pytest.mark.parametrize("name", PRINTED)
def test_every_table_says_where_its_numbers_come_from(name: str) -> None:
    table = load_table(name)
    number = name.removeprefix("table").removeprefix("figure")
    where = f"{'Figure' if name.startswith('figure') else 'Table'} {number.removeprefix('S')}"
    assert table.source.endswith(f"(ICCV 2023), {'supplement, ' * number.startswith('S')}{where}")
    assert table.title
    assert f"{table.published_classes} classes" in table.published_note
    assert (table.published_dataset, table.published_classes) in {("voc12", 21), ("coco14", 81)}


def test_literature_has_the_supervision_that_the_paper_prints() -> None:
    literature = {r.name: r.supervision for r in load_table("table2").rows if not r.computed}
    assert [n for n, s in literature.items() if s == "tags"] == [
        "SEAM", "SC-CAM", "BES", "CONTA", "CDA", "OC-CSE", "RIB", "AdvCAM (I.)", "VWL", "W-OoD", "SIPE", "ESOL (I.)",
    ]  # fmt: skip
    assert [n for n, s in literature.items() if s == "tags+saliency"] == [
        "DSRG", "FickleNet", "NSROM", "EPS", "AdvCAM (I.+S.)", "ReCAM (I.+S.)", "L2G", "RCA", "ESOL (I.+S.)",
    ]  # fmt: skip
    assert len(literature) == 21
    assert {r.supervision for r in load_table("table3").rows if not r.computed} == {"tags"}


def seed(row: Row) -> tuple[object, ...]:
    return row.cam, row.matting, row.refine


def test_systems_are_made_of_what_they_are_called() -> None:
    systems: dict[str, tuple[object, ...]] = {
        "D2CAM only": ("d2cam", None, ("irn",)),
        "Mat-Label w/ ReCAM": ("recam", "knn", ("irn",)),
    }
    for name, ours, recam in (("table2", "Mat-Label (I.)", "ReCAM (I.)"), ("table3", "Mat-Label (ours)", "ReCAM")):
        found = rows(name)
        expected = systems | {ours: ("d2cam", "knn", ("irn",)), recam: ("recam", None, ("irn",))}
        assert {n: seed(found[n]) for n in expected} == expected
        assert found["Fully supervised"].labels == "masks"
        floor = found["Tags only, no matting"]
        assert (*seed(floor), floor.threshold) == ("cam", None, (), "mask-free")
        assert floor.extension and found["Fully supervised"].extension
    assert seed(rows("table2")["Mat-Label (I.+S.)"]) == ("d2cam", "knn", ("irn", "saliency"))
    assert seed(rows("table3")["IRN"]) == ("cam", None, ("irn",))
    refinements = {n: (r.matting, r.refine) for n, r in rows("tableS3").items()}
    assert refinements == {
        "+ CRF": (None, ("crf",)),
        "+ CRF + IRN": (None, ("irn",)),
        "+ CRF + Mat-Label": ("knn", ("crf",)),
        "+ CRF + IRN + Mat-Label": ("knn", ("irn",)),
    }
    mattings = [r.matting for r in load_table("tableS1").rows if not r.extension]
    assert mattings == [None, "closed_form", "lbdm", "random_walk", "matteformer", "knn"]
    assert rows("tableS1")["KNN, trimap by uncertainty"].trimap == "uncertainty"


def test_segmenters_are_scored_on_val_and_test_with_and_without_crf() -> None:
    columns = [(c.name, c.segment, c.split, dict(c.set)) for c in load_table("table2").columns]
    assert columns == [
        ("Val", "deeplab_v2", "val", {"deeplab_v2.crf": True}),
        ("Test", "deeplab_v2", "test", {"deeplab_v2.crf": True}),
        ("Val (no CRF)", "deeplab_v2", "val", {"deeplab_v2.crf": False}),
    ]
    assert [(c.name, c.segment, c.split) for c in load_table("table3").columns] == [
        ("Val", "deeplab_v2", "val"),
        ("Val (no CRF)", "deeplab_v2", "val"),
    ]


def numbers(text: str) -> tuple[float, ...]:
    return tuple(float(n) for n in text.partition(")")[0].strip("(").split(","))


def test_sweeps_set_what_their_rows_are_called() -> None:
    weights = ("d2cam.gamma1", "d2cam.gamma2", "d2cam.gamma3")
    for name, fields in (
        ("tableS4", weights),
        ("tableS5", ("d2cam.lam",)),
        ("figureS1", ("d2cam.m",)),
        ("figureS3", ("trimap.fg",)),
    ):
        for row in load_table(name).rows:
            margin = {"d2cam.area": "margin"} if name == "figureS1" else {}  # whose m it is, whatever a profile takes
            assert dict(row.set) == margin | dict(zip(fields, numbers(row.name), strict=True)), (name, row.name)
    for column in load_table("figureS3").columns:
        assert dict(column.set) == {"trimap.bg": float(column.name)}
    assert [r.name for r in load_table("figureS1").rows] == ["0.05", "0.10", "0.15", "0.20", "0.25", "0.30", "0.40"]


def test_the_ablation_takes_away_one_loss_after_another() -> None:
    found = {n: dict(r.set) for n, r in rows("table4").items()}
    assert found == {
        "CAM": {},
        "L_d2": {"d2cam.gamma2": 0.0, "d2cam.gamma3": 0.0},
        "L_d2 + L_area": {"d2cam.area": "plain", "d2cam.gamma3": 0.0},
        "L_d2 + L_ma": {"d2cam.gamma3": 0.0},
        "L_d2 + L_ma + L_oe": {},
    }


def test_figures_are_drawn_in_their_form() -> None:
    assert {n: f for n in tables() if (f := load_table(n).form) != "table"} == {
        "tableS5": "line",
        "figureS1": "line",
        "figureS3": "grid",
        "figure2": "pictures",
        "figureS2": "pictures",
        "figureS4": "pictures",
    }
    failures = load_table("figureS2").pictures
    assert failures is not None
    assert (failures.rule, failures.before, failures.after) == ("worst", "D2CAM only", "Mat-Label (ours)")
    assert all((p := load_table(n).pictures) is not None and p.rule == "even" for n in ("figure2", "figureS4"))


def test_speed_is_in_seconds() -> None:
    assert [(c.name, c.metric) for c in load_table("tableS6").columns] == [("Time (s)", "seconds"), ("mIoU", "mIoU")]


def test_seeds_on_maps_are_shown_with_a_threshold_that_saw_no_mask() -> None:
    """Beside every searched threshold stands a mask-free one (grids and pictures show alphas, or one number a row)."""
    for name in ("table1", "table4", "tableS1", "tableS2", "tableS3", "tableS4", "tableS5", "figureS1"):
        assert "mask-free" in {c.threshold for c in load_table(name).columns}, name
