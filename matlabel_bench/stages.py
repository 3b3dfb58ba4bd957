"""What a worker does to one image in each stage.

maps    NAME.npz   cams: float16 k gh gw on the network's grid; size: h, w of the image
views   NAME.npz   the same of the mean over views of the image, and `spread`, their standard deviation
trimap  NAME.png   the k planes stacked, 0 / 128 / 255; status a class in a text chunk
alpha   NAME.png   the k planes stacked, 8 bit; fallback note in a text chunk
label, refine, segment, truth   NAME.png   palette label
score   tallies.npz of the whole split, threshold   threshold.json, speed   speed.json: by the main process
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from matlabel_bench import contracts
from matlabel_bench.errors import BenchError, DataError, MattingFailed
from matlabel_bench.handover import (
    Inputs,
    load_label,
    load_maps,
    load_scores,
    load_seed,
    load_values,
    load_views,
    output,
    write_maps,
)
from matlabel_bench.images import write_label
from matlabel_bench.label import make_label
from matlabel_bench.planes import read_planes, write_planes
from matlabel_bench.score import Tally, histogram, tally_label, tally_maps
from matlabel_bench.spec import takes_maps, together
from matlabel_bench.splits import whole
from matlabel_bench.timing import seed_seconds
from matlabel_bench.trimap import make_trimap
from matlabel_bench.types import Alpha, Cams, Label, Sample, Trimap
from matlabel_bench.uncertainty import spread, uncertain_trimap


@dataclass(frozen=True)
class Task:
    """All a worker needs for one stage; small, picklable, hashable."""

    stage: str
    name: str
    part: Any
    inputs: Inputs
    out: Path
    dataset: Any
    """Only `score` and `truth` have it: masks are out of every other stage's reach."""
    split: str
    classes: int
    """N."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one image: notes and a tally, or an error."""

    id: str
    notes: dict[str, Any]
    tally: Tally | None = None
    error: tuple[str, str, str] | None = None


def run_chunk(task: Task, samples: Sequence[Sample]) -> list[Outcome]:
    """Run a stage over some images. An image that fails does not keep the others from being done.

    Raises:
        OSError: the disk is full, or the stage's folder may not be written; there is no point in going on.
    """
    work = WORK[task.stage]
    done = []
    at_once = _at_once(task, samples) if together(task.part) > 1 else {}
    for sample in samples:
        try:
            solved = at_once.pop(sample.id, None)
            done.append(work(task, sample) if solved is None else _alpha(task, sample, solved))
        except (Exception, SystemExit) as err:
            _stop_without_disk(err, task.out)
            done.append(Outcome(sample.id, {}, error=_reason(err, task, sample)))
    return done


def _reason(err: BaseException, task: Task, sample: Sample) -> tuple[str, str, str]:
    """Expected, got, remedy of what went wrong with one image."""
    if isinstance(err, BenchError):
        return err.expected, err.got, err.remedy
    where = traceback.extract_tb(err.__traceback__)[-1]
    got = f"{type(err).__name__}: {err} ({Path(where.filename).name}:{where.lineno})"
    remedy = "this is a defect of the part: `bench check` it and report it to its author"
    if isinstance(err, MemoryError):
        remedy = "use fewer --workers"
    return f"{task.stage} {task.name} to work on {sample.id}", got, remedy


def _stop_without_disk(err: BaseException, out: Path) -> None:
    """Raises OSError where `err` says that nothing more can be written, for the other images no more than for this."""
    cause = err if isinstance(err, OSError) else err.__cause__
    if isinstance(cause, OSError):
        ours = str(cause.filename or "").startswith(str(out))
        if ours or cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
            raise OSError(cause.errno, cause.strerror, str(cause.filename or out)) from err


@lru_cache(maxsize=4)
def _live(task: Task) -> Callable[..., Any]:
    """The part's live function, opened once in a worker."""
    if task.dataset is not None:
        masks = task.dataset.masks(whole(task.split))
        if masks is None:
            raise DataError(
                f"masks for split {task.split!r}", "none", "take a split that has masks, or complete the data set"
            )
        return masks  # type: ignore[no-any-return]
    return task.part.open(task.inputs.fit)  # type: ignore[no-any-return]


def _call(task: Task, sample: Sample, *given: Any) -> Any:
    """The part's answer; a part that asks for the image's id gets it as its last argument."""
    return _live(task)(*given, *([sample.id] if getattr(task.part, "wants_id", False) else []))


def _maps(task: Task, sample: Sample) -> Outcome:
    image = sample.read()
    cams = contracts.check_cams(_call(task, sample, image, sample.tag_array()), len(sample.tags), task.name)
    write_maps(output("maps", task.out, sample.id), image.shape[:2], cams=cams)
    return Outcome(sample.id, {})


def _views(task: Task, sample: Sample) -> Outcome:
    image = sample.read()

    def live(view: Any, tags: Any) -> Any:
        return contracts.check_cams(_call(task, sample, view, tags), len(sample.tags), task.name)

    mean, deviation = spread(live, image, sample.tag_array())
    write_maps(output("views", task.out, sample.id), image.shape[:2], cams=mean, spread=deviation)
    return Outcome(sample.id, {})


def _trimap(task: Task, sample: Sample) -> Outcome:
    if task.inputs.views is not None:
        trimap, statuses = uncertain_trimap(*load_views(task.inputs, sample), task.part)
    else:
        trimap, statuses = make_trimap(load_maps(task.inputs, sample), task.part)
    contracts.check_trimap(trimap, trimap.shape, "the trimap stage")
    notes = {"repaired": [s for s in statuses if s != "ok"], "classes": len(statuses)}
    write_planes(output("trimap", task.out, sample.id), trimap, trimap.shape[1:], notes)
    return Outcome(sample.id, notes)


def _at_once(task: Task, samples: Sequence[Sample]) -> dict[str, Alpha]:
    """Alphas of images that the matting solves together; of none where something is wrong with one.

    Images that are missing here are worked on by themselves, and then say what was wrong.
    """
    read: dict[str, tuple[Any, Any]] = {}
    try:
        for sample in samples:
            with suppress(Exception):
                read[sample.id] = sample.read(), _given(task, sample)
        alphas = _live(task).many(*zip(*read.values(), strict=True))  # type: ignore[attr-defined]
        solved = list(zip(read, alphas, strict=True))
    except (Exception, SystemExit):
        return {}
    return {name: alpha for name, alpha in solved if not isinstance(alpha, MattingFailed)}


def _given(task: Task, sample: Sample) -> Trimap | Cams:
    """What a matting starts from, k h w."""
    if task.inputs.trimap is not None:
        return read_planes(output("trimap", task.inputs.trimap, sample.id))[0]
    return load_maps(task.inputs, sample)


def _alpha(task: Task, sample: Sample, solved: Alpha | None = None) -> Outcome:
    given = _given(task, sample)
    if solved is None:
        alpha, failed = _solve(task, sample, given)
    else:
        alpha, failed = contracts.check_alpha(solved, given, task.name), []
    notes: dict[str, Any] = {"classes": len(given)} | ({"fallback": failed} if failed else {})
    write_planes(output("alpha", task.out, sample.id), np.round(alpha * 255).astype(np.uint8), given.shape[1:], notes)
    return Outcome(sample.id, notes)


def _solve(task: Task, sample: Sample, given: Trimap | Cams) -> tuple[Alpha, list[str]]:
    """Alphas of all classes, and why the solver gave up on some; `given` is the trimap, or the maps.

    The documented rule: a class that no solver can work on takes its map for its alpha, and the table says so. The
    classes are tried together first, because they share the image's Laplacian, then each alone.
    """
    live, image = _live(task), sample.read()
    try:
        return contracts.check_alpha(live(image, given), given, task.name), []
    except MattingFailed as err:
        if len(given) == 1:
            return load_maps(task.inputs, sample), [err.got]
    maps, failed = load_maps(task.inputs, sample), []
    for plane in range(len(given)):
        one = given[plane : plane + 1]
        try:
            maps[plane] = contracts.check_alpha(live(image, one), one, task.name)[0]
        except MattingFailed as err:
            failed.append(err.got)
    return maps, failed


def _refine(task: Task, sample: Sample) -> Outcome:
    load = load_values if takes_maps(task.part) else load_scores
    image = sample.read()
    got = _call(task, sample, image, sample.tag_array(), load(task.inputs, sample))
    return _write(task, sample, _as_label(task, sample, got, image.shape[:2]))


def _label(task: Task, sample: Sample) -> Outcome:
    return _write(task, sample, make_label(load_scores(task.inputs, sample), sample.tag_array()))


def _truth(task: Task, sample: Sample) -> Outcome:
    return _write(task, sample, _live(task)(sample.id))


def _segment(task: Task, sample: Sample) -> Outcome:
    image = sample.read()
    known = set(range(1, task.classes + 1))
    return _write(task, sample, contracts.check_label(_call(task, sample, image), image.shape[:2], known, task.name))


def _write(task: Task, sample: Sample, label: Label) -> Outcome:
    write_label(output(task.stage, task.out, sample.id), label)
    return Outcome(sample.id, {})


def _score(task: Task, sample: Sample) -> Outcome:
    mask = _live(task)(sample.id)
    if task.inputs.labels is not None:
        return Outcome(sample.id, {}, tally_label(load_label(task.inputs, sample), mask))
    maps, tie = load_seed(task.inputs, sample)
    return Outcome(sample.id, {}, tally_maps(maps, sample.tag_array(), mask, tie))


def _threshold(task: Task, sample: Sample) -> Outcome:
    maps, _ = load_seed(task.inputs, sample)
    return Outcome(sample.id, {"histogram": histogram(maps).tolist()})


def _speed(task: Task, sample: Sample) -> Outcome:
    return Outcome(sample.id, seed_seconds(task.part, task.inputs, sample))


WORK: dict[str, Callable[[Task, Sample], Outcome]] = {
    "maps": _maps,
    "views": _views,
    "trimap": _trimap,
    "alpha": _alpha,
    "label": _label,
    "truth": _truth,
    "refine": _refine,
    "segment": _segment,
    "score": _score,
    "threshold": _threshold,
    "speed": _speed,
}


def _as_label(task: Task, sample: Sample, got: Any, size: tuple[int, int]) -> Label:
    if isinstance(got, np.ndarray) and got.ndim == 3:
        scores = contracts.check_scores(got, len(sample.tags) + 1, size, task.name)
        return make_label(scores, sample.tag_array())
    return contracts.check_label(got, size, set(sample.tags), task.name)
