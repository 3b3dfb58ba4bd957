"""Workers: every item once, whatever their number; one thread each."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matlabel_bench import workers
from matlabel_bench.errors import UsageError
from matlabel_bench.workers import THREAD_VARIABLES, Workers, pin_threads, split


def place(items: Sequence[int]) -> list[tuple[int, int, str]]:
    return [(i, os.getpid(), os.environ.get("OMP_NUM_THREADS", "")) for i in items]


def slowly(items: Sequence[int]) -> list[tuple[int, int, str]]:
    time.sleep(0.05)
    return place(items)


@given(st.integers(0, 3000), st.integers(1, 64))
def test_chunks_hold_every_item_once_in_order(count: int, number: int) -> None:
    chunks = split(range(count), number)
    assert [i for chunk in chunks for i in chunk] == list(range(count))
    assert all(1 <= len(chunk) <= 16 for chunk in chunks)
    if count >= number:
        assert len(chunks) >= number, "no worker idles from the start"


@pytest.mark.parametrize(("count", "inline"), [(1, False), (4, True)])
def test_one_worker_and_inline_work_stay_in_this_process(count: int, inline: bool) -> None:
    done = [x for chunk in Workers(count).map(place, range(10), inline=inline) for x in chunk]
    assert [i for i, _, _ in done] == list(range(10))
    assert {pid for _, pid, _ in done} == {os.getpid()}


def test_several_workers_are_other_processes_of_one_thread() -> None:
    done = [x for chunk in Workers(2).map(place, range(40)) for x in chunk]
    assert sorted(i for i, _, _ in done) == list(range(40))
    assert os.getpid() not in {pid for _, pid, _ in done}
    assert {threads for _, _, threads in done} == {"1"}


def test_a_limit_leaves_cores_to_others_and_nothing_is_no_work() -> None:
    done = [x for chunk in Workers(2).map(place, range(4), limit=1) for x in chunk]
    assert {pid for _, pid, _ in done} == {os.getpid()}
    assert list(Workers(2).map(place, [])) == []


def test_pinning_reaches_every_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "8")
    pin_threads(2)
    assert {os.environ[name] for name in THREAD_VARIABLES} == {"2"}
    assert workers.cores() >= 1


def test_a_cluster_needs_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="Dask for --scheduler"):
        Workers(1, "tcp://nowhere:1")


@pytest.mark.filterwarnings("ignore")  # distributed and tornado warn on their own terms
def test_a_cluster_does_the_same_work() -> None:
    distributed = pytest.importorskip("distributed", reason="needs pip install 'matlabel-bench[cluster]'")
    with distributed.LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        workers = Workers(2, cluster.scheduler_address)
        found = sorted(sum(chunk) for chunk in workers.map(list, range(10)))
        again = sorted(sum(chunk) for chunk in workers.map(list, range(10)))
        workers.close()
    assert sum(found) == 45
    assert found == again


def test_a_scheduler_that_does_not_answer() -> None:
    pytest.importorskip("distributed", reason="needs pip install 'matlabel-bench[cluster]'")
    with pytest.raises(UsageError, match="a Dask scheduler at --scheduler"):
        list(Workers(2, "tcp://127.0.0.1:9", timeout="1s").map(list, range(4)))


@pytest.mark.parametrize("count", [1, 2])
def test_work_that_was_begun_is_finished_when_the_rest_is_called_off(count: int) -> None:
    seen: list[int] = []

    def enough() -> bool:
        return bool(seen)

    for chunk in Workers(count).map(slowly, range(400), until=enough):
        seen.extend(i for i, _, _ in chunk)
    assert len(set(seen)) == len(seen)
    assert 0 < len(seen) < 400
    assert list(Workers(count).map(place, range(4), until=lambda: True)) == []
