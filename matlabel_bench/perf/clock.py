"""Seconds of calls made in turns, and the memory and first use of calls that have a process to themselves."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from matlabel_bench.errors import BenchError
from matlabel_bench.workers import KEEP_MEMORY

Result = TypeVar("Result")
STATUS, REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
COMPILED = "NUMBA_CACHE_DIR"
"""Where compiled code is kept; an empty folder there makes a use the first."""


def seconds_of(call: Callable[[], Result], device: str = "cpu") -> tuple[float, Result]:
    """What a call takes, and its result.

    On the processor these are seconds of computing, in one thread as all are pinned, which other work on the machine
    lengthens little; of what runs elsewhere they are the clock's.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    result = call()
    return clock() - start, result


def peak_mib(call: Callable[[], Any]) -> float:
    """MiB of resident memory that a call needs at its peak, beyond what was held before.

    Linux tells the peak of a span of time; elsewhere it is what the call adds to the peak of the process.
    """
    try:
        REFS.write_text("5")  # the peak begins anew
        before = _resident("VmRSS")
        call()
        return (_resident("VmHWM") - before) / 1024
    except OSError:
        import resource

        unit = 1024**2 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        call()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / unit


def alone(work: Callable[..., Result], *given: Any, **environment: str) -> Result:
    """`work(*given)` in a fresh process, which gives memory back to the system as by default.

    Raises:
        BenchError: the process died. Whatever the work raises.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, work, given))
    with _environment(environment):
        process.start()
    theirs.close()  # so that the other end's closing is heard
    try:
        answer, error = ours.recv()
    except EOFError as err:
        remedy = "where memory ran short measure smaller images, or leave the part out"
        raise BenchError("a process of its own to live", "one that was ended", remedy) from err
    finally:
        process.kill()  # it has answered, or Ctrl-C is heard here and must end it
        process.join()
    if error is not None:
        raise error
    result: Result = answer
    return result


def _answer(out: Any, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    """In the process of `alone`: send the result, or what was raised."""
    try:
        out.send((work(*given), None))
    except (Exception, SystemExit) as err:
        out.send((None, err))


def used_first(work: Callable[..., Any], *given: Any) -> tuple[float, float]:
    """Seconds by the clock, of `work` where nothing compiled is kept yet, and then again; each in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        first, again = (alone(_clocked, work, given, **{COMPILED: folder}) for _ in range(2))
    return first, again


def _clocked(work: Callable[..., Any], given: tuple[Any, ...]) -> float:
    start = time.perf_counter()
    work(*given)
    return time.perf_counter() - start


def _resident(which: str) -> int:
    """KiB that this process holds (VmRSS), or held at most (VmHWM). Raises OSError where the system does not tell."""
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(which))


@contextlib.contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    """For processes that start now: with `more`, and without what keeps freed memory."""
    before = dict(os.environ)
    for name in KEEP_MEMORY:
        os.environ.pop(name, None)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
