"""The one seam for parallel work: images over processes of one thread each, trainings as processes of their own.

Threads inside one image cost more than they bring, and they change results in the last bits; so every worker is pinned
to one thread, and results do not depend on how many workers there are.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from itertools import takewhile
from typing import Any, TypeVar

from matlabel_bench.errors import BenchError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_TOP_PAD_": "67108864"}


def pin_threads(count: int = 1) -> None:
    """Fix the threads of this process's numeric libraries; effective before they are imported, and in children.

    Children also keep the memory they free (glibc reads that at their start): a network's activations are large and
    come and go at every step, and giving their pages back and forth costs a fifth of a training's time, and more
    where several run.
    """
    for name in THREAD_VARIABLES:
        os.environ[name] = str(count)
    for name, value in KEEP_MEMORY.items():
        os.environ.setdefault(name, value)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Maps functions over images. `scheduler` is the address of a Dask cluster, None for this machine's cores.

    Raises:
        UsageError: a scheduler without Dask.
    """

    def __init__(self, count: int, scheduler: str | None = None, timeout: str = "20s") -> None:
        self.count = max(1, count)
        self.scheduler, self.timeout = scheduler, timeout
        self._connection: Any = None
        if scheduler is not None and find_spec("distributed") is None:
            raise UsageError("Dask for --scheduler", "no package dask", "pip install 'matlabel-bench[cluster]'")

    def map(
        self,
        work: Callable[[Sequence[Item]], Result],
        items: Sequence[Item],
        *,
        inline: bool = False,
        size: int = 0,
        limit: int = 0,
        until: Callable[[], bool] = lambda: False,
    ) -> Iterator[Result]:
        """`work` over chunks of `items`, results as they come.

        Args:
            work: picklable; called with a chunk, in a worker process.
            inline: stay in this process (the only one on a GPU: its memory holds the network once).
            size: items of a chunk, where it must be so many (0: as many as is quickest).
            limit: use at most so many workers (0: all), to leave cores to trainings that run beside.
            until: once it is true no further chunk is begun; those begun are finished and yielded. Not on a cluster.

        Raises:
            BenchError: a worker process died.
        """
        count = min(self.count, limit) if limit else self.count
        chunks = split(items, 64 if self.scheduler else count, size)
        wanted = takewhile(lambda chunk: not until(), chunks)
        if inline or not chunks or (count == 1 and self.scheduler is None):
            yield from (work(chunk) for chunk in wanted)
        elif self.scheduler:
            yield from self._spread(work, chunks)
        else:
            yield from self._local(work, wanted, count)

    def close(self) -> None:
        """Leave the cluster, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _local(
        self, work: Callable[[Sequence[Item]], Result], chunks: Iterable[Sequence[Item]], count: int
    ) -> Iterator[Result]:
        from joblib import Parallel, delayed, parallel_config

        # loky renews a worker whose memory has grown; the work goes on, and nobody needs to act.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        try:
            with parallel_config(backend="loky", inner_max_num_threads=1):
                yield from Parallel(n_jobs=count, return_as="generator_unordered")(delayed(work)(c) for c in chunks)
        except BrokenProcessPool as err:
            raise BenchError(
                "every worker process to live",
                "one that was ended from outside, or crashed in compiled code",
                "where memory ran short use fewer --workers; else `bench check` the part; what was computed is kept",
            ) from err

    def _spread(self, work: Callable[[Sequence[Item]], Result], chunks: list[Sequence[Item]]) -> Iterator[Result]:
        """Over the workers of a Dask cluster, which must see the store and the data under the same paths."""
        from dask.distributed import as_completed

        client = self._client()
        futures = client.map(work, chunks, pure=False)
        try:
            for _, result in as_completed(futures, with_results=True):
                yield result
        finally:
            client.cancel(futures)

    def _client(self) -> Any:
        """The connection to the scheduler, made once. Raises UsageError where nothing answers."""
        from dask.distributed import Client

        if self._connection is None:
            try:
                self._connection = Client(self.scheduler, timeout=self.timeout)
            except (OSError, ValueError) as err:
                raise UsageError(
                    "a Dask scheduler at --scheduler", f"{self.scheduler} ({err})", "start one, e.g. `dask scheduler`"
                ) from err
        return self._connection


def split(items: Sequence[Item], workers: int, size: int = 0) -> list[Sequence[Item]]:
    """Chunks of `size`; 0: so small that no worker idles long at the end, so large that sending them costs nothing."""
    size = size or max(1, min(16, len(items) // (workers * 4) or 1))
    return [items[i : i + size] for i in range(0, len(items), size)]
