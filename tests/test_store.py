"""The store: whole files or none, one worker a key, what is done and what is not, cleaning and checking."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from matlabel_bench import files
from matlabel_bench.errors import DataError, UsageError
from matlabel_bench.files import write_bytes
from matlabel_bench.store import Slot, Store, read_json, write_json

RECORD = {"stage": "maps", "part": "p", "items": 4}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def fill(store: Store, key: str, *names: str, seconds: float = 2.0, done: bool = True) -> Slot:
    slot = store.slot("maps", key)
    with store.claim(slot, RECORD, print) as work:
        assert work
        for name in names or ("a.png",):
            write_bytes(slot.files / name, name.encode())
        if done:
            store.finish(slot, seconds, {"repaired": 1})
    return slot


# Whole files or none -------------------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "a.json"
    write_bytes(path, b"old")

    def full(part: Path, content: bytes) -> None:
        with part.open("wb") as handle:
            handle.write(content[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space") as err:
        write_bytes(path, b"other")
    assert err.value.filename == str(path), "a full disk does not say where"
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_json_comes_back_and_other_files_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ä": [1, None]})
    assert read_json(tmp_path / "a.json") == {"ä": [1, None]}
    for text in ("{", "[1]"):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(DataError, match=r"b\.json"):
            read_json(tmp_path / "b.json")
    with pytest.raises(DataError, match="run again"):
        read_json(tmp_path / "none.json")


# Keys ----------------------------------------------------------------------------------------------------------------


def test_a_key_is_done_once_and_then_taken(store: Store) -> None:
    slot = fill(store, "k1", "a.png", "sub/b.png")
    assert slot.done
    report = slot.report()
    assert set(report["files"]) == {"a.png", "sub/b.png"}
    assert (report["seconds"], report["bytes"], report["notes"]) == (2.0, 14, {"repaired": 1})
    assert read_json(slot.folder / "record.json") == RECORD
    with store.claim(slot, RECORD, print) as work:
        assert not work


def test_hidden_parts_of_files_are_no_output(store: Store) -> None:
    slot = fill(store, "k1", "a.png", ".b.png.123.part")
    assert set(slot.report()["files"]) == {"a.png"}


def test_what_fails_keeps_its_files_and_is_not_done(store: Store) -> None:
    slot = store.slot("maps", "k1")
    with pytest.raises(ZeroDivisionError), store.claim(slot, RECORD, print):
        write_bytes(slot.files / "a.png", b"a")
        raise ZeroDivisionError
    assert not slot.done
    assert (slot.files / "a.png").is_file()
    with store.claim(slot, RECORD, print) as work:
        assert work, "the lock was released and there is work left"


def test_seconds_of_interrupted_runs_add_up(store: Store) -> None:
    slot = fill(store, "k1", done=False)
    assert store.spent(slot) == 0
    store.interrupt(slot, 1.5)
    store.interrupt(slot, 2.0)
    assert store.spent(slot) == 3.5
    (slot.folder / "spent.json").write_text("{")
    assert store.spent(slot) == 0, "an unreadable note is only a note"
    store.interrupt(slot, 4.0)
    with store.claim(slot, RECORD, print):
        store.finish(slot, 1.0, {})
    assert slot.report()["seconds"] == 5.0
    store.interrupt(slot, 9.0)
    assert slot.report()["seconds"] == 5.0, "what is done is not interrupted"


def test_two_at_once_one_works_and_the_other_waits_and_says_so(store: Store) -> None:
    slot, said, got = store.slot("maps", "k1"), [], []

    def second() -> None:
        with Store(store.root).claim(slot, RECORD, said.append) as work:
            got.append(work)

    other = threading.Thread(target=second)
    with store.claim(slot, RECORD, print) as work:
        assert work
        other.start()
        while not said and other.is_alive():
            time.sleep(0.02)
        assert got == []
        write_bytes(slot.files / "a.png", b"a")
        store.finish(slot, 1.0, {})
    other.join(10)
    assert got == [False], "the first one's result is taken"
    assert "maps k1 is being computed by another run" in said[0]


# Looking after it ----------------------------------------------------------------------------------------------------


def test_verify_reads_every_file_of_what_is_done(store: Store) -> None:
    slot = fill(store, "k1", "a.png", "b.png", "c.png")
    fill(store, "k2", done=False)
    assert store.verify() == []
    (slot.files / "a.png").write_bytes(b"x.png")  # same length
    (slot.files / "b.png").unlink()
    problems = store.verify()
    assert problems[0] == "maps/k1/a.png: changed since it was written"
    assert problems[1] == "maps/k1/b.png: missing"
    assert "remove these STAGE/KEY folders" in problems[2]
    (slot.folder / "done.json").write_text("{")
    assert "a readable JSON file of the store" in store.verify()[0]


def age(slot: Slot, days: float) -> None:
    then = time.time() - days * 86400
    os.utime(slot.folder / "done.json", (then, then))


def test_gc_takes_old_and_unfinished_keys_only(store: Store) -> None:
    old, fresh, used, begun = (fill(store, k, done=k != "begun") for k in ("old", "fresh", "used", "begun"))
    for slot in (old, used):
        age(slot, 40)
    store.touch(used)
    assert store.gc(dry=True)[0] == 2
    assert old.done
    count, size = store.gc()
    assert count == 2
    assert size > 0
    assert [s.key for s in store.slots()] == ["fresh", "used"]
    assert not begun.folder.exists()
    assert fresh.done
    assert store.gc(days=0)[0] == 2


def test_gc_leaves_what_somebody_works_on(store: Store) -> None:
    slot = store.slot("maps", "k1")
    with store.claim(slot, RECORD, print):
        assert Store(store.root).gc(days=0) == (0, 0)
        assert slot.files.is_dir()


@pytest.mark.parametrize("days", [-1.0, float("nan")])
def test_gc_wants_a_number_of_days(store: Store, days: float) -> None:
    slot = fill(store, "k1")
    with pytest.raises(UsageError, match="a number of days of at least 0"):
        store.gc(days=days)
    assert slot.done


def test_rates_are_medians_of_what_was_seen(store: Store) -> None:
    for number, seconds in enumerate((4.0, 8.0, 400.0)):
        fill(store, f"k{number}", seconds=seconds)
    fill(store, "begun", done=False)
    odd = fill(store, "odd", seconds=9.0)
    (odd.folder / "record.json").write_text("{}")
    assert store.rates() == {("maps", "p", ""): 2.0}


def test_rates_of_this_hardware_count_alone_where_there_are_any(store: Store) -> None:
    here = {"cpu": "a", "vectors": ["avx2"], "gpus": [], "cores": 2}
    there, older = here | {"gpus": ["b"], "cores": 16}, here | {"vectors": []}
    for number, (hardware, seconds) in enumerate(((there, 400.0), (there, 600.0), (here, 4.0), (older, 8.0))):
        slot = fill(store, f"k{number}", seconds=seconds)
        write_json(slot.folder / "record.json", RECORD | {"environment": {"hardware": hardware}})
    rates = {
        name: store.rates(hardware)["maps", "p", ""]
        for name, hardware in (("here", here), ("there", there), ("older", older))
    }
    assert rates == {"here": 1.0, "there": 150.0, "older": 2.0}
    assert store.rates({"cpu": "c", "gpus": []}) == store.rates() == {("maps", "p", ""): 100.0}


def test_a_store_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="a store folder that can be written"):
            Store(path)


def test_rates_of_devices_stand_apart(store: Store) -> None:
    for number, device in enumerate(("cpu", "cuda", "cuda")):
        slot = fill(store, f"k{number}", seconds=4.0 + number)
        write_json(slot.folder / "record.json", RECORD | {"device": device})
    assert store.rates() == {("maps", "p", "cpu"): 1.0, ("maps", "p", "cuda"): 1.5}
