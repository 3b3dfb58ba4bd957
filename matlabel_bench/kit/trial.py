"""Trying promises: each becomes a finding, whatever the part does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from matlabel_bench.errors import BenchError, MattingFailed

ROUNDING = 1e-4
"""How far alphas of an image alone and among others may stand apart."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise: its name, whether it was kept, and what happened where it was not."""

    name: str
    ok: bool
    message: str = ""

    def row(self) -> dict[str, Any]:
        return asdict(self)


class Broken(Exception):
    """A promise that was not kept, in words."""


def hold(condition: bool, message: str) -> None:
    """Raise Broken where the condition does not hold."""
    if not condition:
        raise Broken(message)


@dataclass
class Trial:
    """Collects findings. `with trial("is frozen"):` tries one promise; an exception inside breaks it."""

    findings: list[Finding] = field(default_factory=list)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as err:
            self.findings.append(Finding(name, False, words(err)))
        else:
            self.findings.append(Finding(name, True))

    @property
    def kept(self) -> bool:
        """Whether the promise tried last was kept."""
        return self.findings[-1].ok


@dataclass(frozen=True)
class Case:
    """One call of a live function: its arguments, and what its result must be."""

    name: str
    args: tuple[Any, ...]
    """Arrays and, for a part that asks for it, the image's id."""
    validate: Callable[[Any], object]
    may_fail: bool = False
    """Whether MattingFailed is an answer too: the trimap may leave nothing to solve."""


def live(trial: Trial, opening: Callable[[], Callable[..., Any]], cases: Sequence[Case]) -> None:
    """What is promised of every live function: valid results, untouched inputs, the same from the same."""
    with trial("opens"):
        function = opening()
        hold(callable(function), f"open returned {type(function).__name__}, which cannot be called")
    if not trial.kept:
        return
    touched, results = [], []
    for case in cases:
        with trial(f"{case.name}"):
            args = _copies(case.args)
            result = _call(function, args, case)
            results.append((case, None if result is None else np.array(result)))
            if any(not np.array_equal(a, b) for a, b in zip(args, case.args, strict=True)):
                touched.append(case.name)
            if result is not None:
                case.validate(result)
    with trial("leaves its inputs as they are"):
        hold(not touched, f"changed in place: {', '.join(touched)}; copy before writing")
    with trial("gives the same when called again"):
        _agree(function, results)
    with trial("a second opening gives the same"):
        _agree(opening(), results)
    if many := getattr(function, "many", None):
        with trial("gives the same of many at once"):
            _agree_at_once(many, results)


def words(err: BaseException) -> str:
    """An exception on one line."""
    if isinstance(err, BenchError):
        return f"expected {err.expected}; got {err.got}; {err.remedy}"
    return str(err) if isinstance(err, Broken) else f"{type(err).__name__}: {err}"


def _call(function: Callable[..., Any], args: tuple[np.ndarray, ...], case: Case) -> Any:
    try:
        return function(*args)
    except MattingFailed:
        if case.may_fail:
            return None
        raise


def _copies(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.copy() if isinstance(a, np.ndarray) else a for a in args)


def _agree(function: Callable[..., Any], results: Sequence[tuple[Case, np.ndarray | None]]) -> None:
    hold(bool(results), "no call gave anything to compare")
    for case, before in results:
        again = _call(function, _copies(case.args), case)
        same = again is None if before is None else again is not None and np.array_equal(before, again)
        hold(same, f"another result for: {case.name}; fix the seed of whatever is drawn at random")


def _agree_at_once(many: Callable[..., Any], results: Sequence[tuple[Case, np.ndarray | None]]) -> None:
    answers = many(*zip(*(_copies(case.args) for case, _ in results), strict=True))
    hold(len(answers) == len(results), f"{len(answers)} answers to {len(results)} images")
    for (case, before), answer in zip(results, answers, strict=True):
        failed = isinstance(answer, MattingFailed)
        same = failed if before is None else not failed and np.allclose(before, answer, rtol=0, atol=ROUNDING)
        hold(same, f"another result for: {case.name}; no image may depend on those beside it")
