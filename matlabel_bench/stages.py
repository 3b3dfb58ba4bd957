"""What a worker does to one image in each stage, and the files that stages hand on.

maps    NAME.npz   cams: float16 k gh gw on the network's grid; size: h, w of the image
trimap  NAME.png   the k planes stacked, 0 / 128 / 255; status a class in a text chunk
alpha   NAME.png   the k planes stacked, 8 bit; fallback note in a text chunk
refine  NAME.png   palette label
score   tallies.npz for the whole split, threshold   threshold.json; both written by the main process
"""

from __future__ import annotations

import errno
import io
import traceback
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from matlabel_bench import contracts
from matlabel_bench.errors import BenchError, DataError, MattingFailed
from matlabel_bench.files import write_bytes
from matlabel_bench.images import UNREADABLE, enlarge, read_label, write_label
from matlabel_bench.label import make_label, make_scores
from matlabel_bench.planes import read_planes, write_planes
from matlabel_bench.score import Tally, histogram, tally_label, tally_maps
from matlabel_bench.trimap import make_trimap
from matlabel_bench.types import Alpha, Cams, Label, Sample, Scores, Trimap


@dataclass(frozen=True)
class Task:
    """All a worker needs for one stage; small, picklable, hashable."""

    stage: str
    name: str
    part: Any
    weights: Path | None
    maps: Path | None
    trimap: Path | None
    alpha: Path | None
    labels: Path | None
    out: Path
    threshold: float | None
    dataset: Any
    """Only a score has it: masks are out of every other stage's reach."""
    split: str


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
    for sample in samples:
        try:
            done.append(work(task, sample))
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


def output(task_stage: str, folder: Path, image: str) -> Path:
    """The file of an image in a stage's folder. Ids may hold any character."""
    name = quote(image, safe=" ")
    if name.startswith("."):
        name = "%2E" + name[1:]  # hidden files are work in progress to the store
    return folder / (name + (".npz" if task_stage == "maps" else ".png"))


@lru_cache(maxsize=4)
def _live(task: Task) -> Callable[..., Any]:
    """The part's live function, opened once in a worker."""
    if task.stage == "score":
        masks = task.dataset.masks(task.split)
        if masks is None:
            raise DataError(
                f"masks for split {task.split!r}", "none", "score a split that has masks, or complete the data set"
            )
        return masks  # type: ignore[no-any-return]
    return task.part.open(task.weights)  # type: ignore[no-any-return]


def _maps(task: Task, sample: Sample) -> Outcome:
    image = sample.read()
    cams = contracts.check_cams(_live(task)(image, sample.tag_array()), len(sample.tags), task.name)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, cams=cams.astype(np.float16), size=np.asarray(image.shape[:2], np.int32))
    write_bytes(output("maps", task.out, sample.id), buffer.getvalue())
    return Outcome(sample.id, {})


def _trimap(task: Task, sample: Sample) -> Outcome:
    maps = load_maps(task, sample)
    trimap, statuses = make_trimap(maps, task.part)
    contracts.check_trimap(trimap, maps.shape, "the trimap stage")
    notes = {"repaired": [s for s in statuses if s != "ok"], "classes": len(statuses)}
    write_planes(output("trimap", task.out, sample.id), trimap, maps.shape[1:], notes)
    return Outcome(sample.id, notes)


def _alpha(task: Task, sample: Sample) -> Outcome:
    trimap, _ = read_planes(output("trimap", _need(task.trimap), sample.id))
    alpha, failed = _solve(task, sample, trimap)
    notes: dict[str, Any] = {"classes": len(trimap)} | ({"fallback": failed} if failed else {})
    write_planes(output("alpha", task.out, sample.id), np.round(alpha * 255).astype(np.uint8), trimap.shape[1:], notes)
    return Outcome(sample.id, notes)


def _solve(task: Task, sample: Sample, trimap: Trimap) -> tuple[Alpha, list[str]]:
    """Alphas of all classes, and why the solver gave up on some.

    The documented rule: a class that no solver can work on takes its map for its alpha, and the table says so. The
    classes are tried together first, because they share the image's Laplacian, then each alone.
    """
    live, image = _live(task), sample.read()
    try:
        return contracts.check_alpha(live(image, trimap), trimap, task.name), []
    except MattingFailed as err:
        if len(trimap) == 1:
            return load_maps(task, sample), [err.got]
    maps, failed = load_maps(task, sample), []
    for plane in range(len(trimap)):
        one = trimap[plane : plane + 1]
        try:
            maps[plane] = contracts.check_alpha(live(image, one), one, task.name)[0]
        except MattingFailed as err:
            failed.append(err.got)
    return maps, failed


def _refine(task: Task, sample: Sample) -> Outcome:
    scores = load_scores(task, sample)
    image = sample.read()
    got = _live(task)(image, sample.tag_array(), scores)
    write_label(output("refine", task.out, sample.id), _as_label(task, sample, got, image.shape[:2]))
    return Outcome(sample.id, {})


def _score(task: Task, sample: Sample) -> Outcome:
    mask = _live(task)(sample.id)
    if task.labels is not None:
        return Outcome(sample.id, {}, tally_label(_load_label(task, sample), mask))
    maps, tie = load_seed(task, sample)
    return Outcome(sample.id, {}, tally_maps(maps, sample.tag_array(), mask, tie))


def _threshold(task: Task, sample: Sample) -> Outcome:
    maps, _ = load_seed(task, sample)
    return Outcome(sample.id, {"histogram": histogram(maps).tolist()})


WORK: dict[str, Callable[[Task, Sample], Outcome]] = {
    "maps": _maps,
    "trimap": _trimap,
    "alpha": _alpha,
    "refine": _refine,
    "score": _score,
    "threshold": _threshold,
}


def _as_label(task: Task, sample: Sample, got: Any, size: tuple[int, int]) -> Label:
    if isinstance(got, np.ndarray) and got.ndim == 3:
        scores = contracts.check_scores(got, len(sample.tags) + 1, size, task.name)
        return make_label(scores, sample.tag_array())
    return contracts.check_label(got, size, set(sample.tags), task.name)


def load_maps(task: Task, sample: Sample) -> Cams:
    """The maps of an image at its own size, float32 k h w."""
    path = output("maps", _need(task.maps), sample.id)
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as data:
            cams, size = data["cams"].astype(np.float32), tuple(int(n) for n in data["size"])
    except (*UNREADABLE, KeyError, zipfile.BadZipFile) as err:
        raise DataError("a file of maps of this program", f"{path} ({err})", "run `bench store verify`") from err
    return enlarge(cams, (size[0], size[1]))


def load_seed(task: Task, sample: Sample) -> tuple[Cams, Cams | None]:
    """What the seed is made of: alphas with the maps as tie break, or the maps alone."""
    maps = load_maps(task, sample)
    if task.alpha is None:
        return maps, None
    alpha: Alpha = read_planes(output("alpha", task.alpha, sample.id))[0].astype(np.float32) / 255
    return alpha, maps


def load_scores(task: Task, sample: Sample) -> Scores:
    """Scores for a refiner: of the seed at the task's threshold, or one-hot of an earlier refiner's label."""
    if task.labels is not None:
        label = _load_label(task, sample)
        planes = [label == c for c in (0, *sample.tags)]
        planes[0] |= label == 255
        return np.stack(planes).astype(np.float32)
    if task.threshold is None:
        raise ValueError("a refiner needs the threshold of its seed")
    maps, tie = load_seed(task, sample)
    return make_scores(maps, task.threshold, tie)


def _load_label(task: Task, sample: Sample) -> Label:
    return read_label(output("refine", _need(task.labels), sample.id), 254)


def _need(folder: Path | None) -> Path:
    if folder is None:
        raise ValueError("the plan gave this stage no such input")
    return folder
