"""Every registered part passes the kit: what `bench check` promises of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from matlabel_bench import kit, registry
from matlabel_bench.registry import Entry

ENTRIES = list(registry.start()[0])
QUICK = [e for e in ENTRIES if e.kind != "dataset" and not getattr(e.cls, "trains", False)]
TRAINED = [e for e in ENTRIES if e.kind != "dataset" and getattr(e.cls, "trains", False)]


def broken(entry: Entry, **fields: object) -> dict[str, str]:
    return {f.name: f.message for f in kit.check(entry, fields) if not f.ok}


@pytest.mark.parametrize("entry", QUICK, ids=lambda e: f"{e.kind}/{e.name}")
def test_every_part_that_does_not_train(entry: Entry) -> None:
    assert broken(entry) == {}


@pytest.mark.slow
@pytest.mark.parametrize("entry", TRAINED, ids=lambda e: f"{e.kind}/{e.name}")
def test_every_part_that_trains(entry: Entry) -> None:
    assert broken(entry) == {}


def test_the_embedded_data_set(tmp_path: Path) -> None:
    entry = registry.start()[0].get("dataset", "shapes")
    assert broken(entry, root=str(tmp_path), train=12, val=4, size=64) == {}


@pytest.mark.parametrize("name", ["voc12", "voc12-animals"])
def test_voc_where_its_files_are_at_hand(name: str, real_data: Path) -> None:
    entry = registry.start()[0].get("dataset", name)
    assert broken(entry, root=str(real_data / "voc12-animals")) == {}


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    from matlabel_bench.kit import scenes

    split = scenes.split(tmp_path / "photos", count=6)
    lines = [f"{s.path.name},{' '.join(scenes.CLASSES[t - 1] for t in s.tags)}" for s in split]
    (tmp_path / "tags.csv").write_text("\n".join(["image,tags", *lines, ""]))
    entry = registry.start()[0].get("dataset", "folder")
    assert broken(entry, root=str(tmp_path / "photos"), tags=str(tmp_path / "tags.csv"), untagged="keep") == {}
