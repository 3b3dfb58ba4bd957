"""What each kind of part promises on top of `promises.common`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from matlabel_bench import contracts
from matlabel_bench.errors import DataError, UsageError
from matlabel_bench.kit import scenes
from matlabel_bench.kit.scenes import TAGS
from matlabel_bench.kit.trial import Case, Trial, hold, live
from matlabel_bench.spec import takes_maps
from matlabel_bench.types import BACKGROUND, FOREGROUND, IGNORE, UNKNOWN, Sample, Split

SAME_TRAINING = 1e-3
"""How far results of two trainings from one seed may stand apart: float rounding of a device, grown over one epoch."""


def cam(trial: Trial, part: Any, folder: Path) -> None:
    """Maps for one, two and no tags, on images of odd sizes."""
    cases = []
    for (h, w), tags in zip((*scenes.SIZES, scenes.SIZES[0]), TAGS, strict=True):
        check = partial(contracts.check_cams, tags=len(tags), who="the part")
        args = (scenes.image(h, w, tags), np.array(tags, np.uint8), *_id(part, h, w, tags))
        cases.append(Case(f"maps of a {h}x{w} image with {_count(tags)}", args, check))
    train = scenes.split(folder / "images")
    _fit_and_open(trial, part, folder, partial(_fit_cam, part, train), cases)


def matting(trial: Trial, part: Any, folder: Path) -> None:
    """Alpha for one and two planes; for trimaps (or maps) that leave nothing to solve, alpha or MattingFailed."""
    soft = takes_maps(part)
    cases = []
    for (h, w), tags in zip(scenes.SIZES, TAGS, strict=False):
        image, given = scenes.image(h, w, tags), (scenes.maps if soft else scenes.trimap)(h, w, tags)
        cases.append(_matting_case(f"alpha of a {h}x{w} image with {_count(tags)}", image, given, False))
    for name, trimap in _odd_maps() if soft else _odd_trimaps():
        _, h, w = trimap.shape
        image = scenes.image(h, w, ())
        cases.append(_matting_case(f"alpha or MattingFailed for {name}", image, trimap, True))
    train = scenes.split(folder / "images")
    _fit_and_open(trial, part, folder, partial(_fit_cam, part, train), cases)


def refiner(trial: Trial, part: Any, folder: Path) -> None:
    """Scores or a label, for one, two and no tags, from scores or from maps."""
    evidence = scenes.maps if takes_maps(part) else scenes.scores
    cases = []
    for (h, w), tags in zip((*scenes.SIZES, scenes.SIZES[0]), TAGS, strict=True):
        args = (scenes.image(h, w, tags), np.array(tags, np.uint8), evidence(h, w, tags), *_id(part, h, w, tags))
        check = partial(_refined, size=(h, w), tags=tags)
        cases.append(Case(f"refined {h}x{w} scores with {_count(tags)}", args, check))
    train = scenes.split(folder / "images")
    given = {s.id: evidence(*scenes.size(s), s.tags) for s in train}
    _fit_and_open(trial, part, folder, partial(_fit_on, part, train, given), cases)


def segmenter(trial: Trial, part: Any, folder: Path) -> None:
    """A label of known classes for images of odd sizes."""
    allowed = set(range(1, len(scenes.CLASSES) + 1))
    cases = [
        Case(
            f"label of a {h}x{w} image",
            (scenes.image(h, w, (1, 2)),),
            partial(contracts.check_label, size=(h, w), allowed=allowed, who="the part"),
        )
        for h, w in scenes.SIZES
    ]
    train = scenes.split(folder / "images")
    labels = {s.id: scenes.label(*scenes.size(s), s.tags) for s in train}
    _fit_and_open(trial, part, folder, partial(_fit_on, part, train, labels), cases)


def dataset(trial: Trial, part: Any, folder: Path) -> None:
    """Splits in a fixed order, images and tags that can be read, masks only through their reader."""
    with trial("names its classes and splits"):
        classes, names = part.class_names(), part.split_names()
        hold(bool(classes) and len(set(classes)) == len(classes), f"class names {classes!r} empty or not unique")
        hold(bool(names), "no split; where are its files? Give the folder with --set root=DIR")
    if not trial.kept:
        return
    for name in names:
        with trial(f"split {name!r}: ids, tags and images"):
            _split(part.split(name), classes)
        with trial(f"split {name!r}: the same order again"):
            hold(part.split(name) == part.split(name), "two readings differ; sort what is listed from disk")
        with trial(f"split {name!r}: masks through their reader only"):
            _masks(part, name, len(classes))
    with trial("an unknown split is an error in three parts"):
        _refuses(lambda: part.split("no-such-split"))


CHECKS: Mapping[str, Callable[[Trial, Any, Path], None]] = {
    "dataset": dataset,
    "cam": cam,
    "matting": matting,
    "refiner": refiner,
    "segmenter": segmenter,
}


def _fit_and_open(trial: Trial, part: Any, folder: Path, fit: Callable[[Path, int], None], cases: list[Case]) -> None:
    """Train twice from one seed where the part trains, then try the live function."""
    if not getattr(part, "trains", False):
        live(trial, lambda: part.open(None), cases)
        return
    outs = [folder / "first", folder / "second"]
    with trial("trains on images and tags alone"), _processes(len(outs)) as pool:
        for out in outs:
            out.mkdir()
        for job in [pool.submit(fit, out, 0) for out in outs]:
            job.result()
        hold(any(outs[0].iterdir()), "fit left nothing in its folder; open has nothing to read")
    if not trial.kept:
        return
    live(trial, lambda: part.open(outs[0]), cases)
    with trial("trains the same from the same seed"):
        first, second = (part.open(out)(*cases[0].args) for out in outs)
        apart = float(np.abs(first.astype(float) - second.astype(float)).max(initial=0))
        hold(apart <= SAME_TRAINING, f"results differ by {apart:.3g}; draw everything from the seed")


def _processes(count: int) -> ProcessPoolExecutor:
    """A process a training, as in a run: frameworks keep global state. What they print goes to stderr."""
    context = get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_stdout_to_stderr, max_tasks_per_child=1)


def _stdout_to_stderr() -> None:
    sys.stdout.flush()
    os.dup2(2, 1)


def _fit_cam(part: Any, train: Split, out: Path, seed: int) -> None:
    part.fit(train, out, seed)


def _fit_on(part: Any, train: Split, given: Mapping[str, np.ndarray], out: Path, seed: int) -> None:
    part.fit(train, given, out, seed)


def _matting_case(name: str, image: np.ndarray, given: np.ndarray, may_fail: bool) -> Case:
    check = partial(contracts.check_alpha, trimap=given, who="the part")
    return Case(name, (image, given), check, may_fail)


def _odd_maps() -> list[tuple[str, np.ndarray]]:
    h, w = 33, 47
    usual = scenes.maps(h, w, (1,))
    return [
        ("no plane at all", np.zeros((0, h, w), np.float32)),
        ("a map of zeros", np.zeros_like(usual)),
        ("a map of ones", np.ones_like(usual)),
        ("one good map and one of zeros", np.concatenate([usual, np.zeros_like(usual)])),
        ("an image one pixel wide", np.linspace(0, 1, 40, dtype=np.float32).reshape(1, 40, 1)),
        ("an image of one pixel", np.ones((1, 1, 1), np.float32)),
    ]


def _odd_trimaps() -> list[tuple[str, np.ndarray]]:
    h, w = 33, 47
    usual = scenes.trimap(h, w, (1,))
    thin = np.full((1, 40, 1), UNKNOWN, np.uint8)
    thin[:, :10], thin[:, 30:] = FOREGROUND, BACKGROUND
    return [
        ("no plane at all", np.zeros((0, h, w), np.uint8)),
        ("all unknown", np.full((1, h, w), UNKNOWN, np.uint8)),
        ("no certain foreground", np.where(usual == FOREGROUND, UNKNOWN, usual).astype(np.uint8)),
        ("no certain background", np.where(usual == BACKGROUND, UNKNOWN, usual).astype(np.uint8)),
        ("nothing unknown", np.where(usual == UNKNOWN, BACKGROUND, usual).astype(np.uint8)),
        ("one good and one all unknown plane", np.concatenate([usual, np.full_like(usual, UNKNOWN)])),
        ("an image one pixel wide", thin),
        ("an image of one pixel", np.full((1, 1, 1), UNKNOWN, np.uint8)),
    ]


def _refined(got: Any, size: tuple[int, int], tags: tuple[int, ...]) -> None:
    if isinstance(got, np.ndarray) and got.ndim == 2:
        contracts.check_label(got, size, set(tags), "the part")
    else:
        contracts.check_scores(got, len(tags) + 1, size, "the part")


def _split(split: Split, classes: tuple[str, ...]) -> None:
    hold(isinstance(split, Split) and bool(split.samples), "no samples")
    hold(split.classes == classes, f"classes {split.classes!r} differ from class_names()")
    ids = [s.id for s in split]
    hold(len(set(ids)) == len(ids), "an id occurs twice")
    for sample in split:
        hold(type(sample) is Sample, f"{sample!r} is no plain Sample: parts see images and tags only")
        hold(all(a < b for a, b in pairwise((0, *sample.tags, len(classes) + 1))), f"{sample.id}: tags {sample.tags}")
    for sample in split.samples[:3]:
        image = sample.read()
        hold(image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3, f"{sample.id}: no RGB image")


def _masks(part: Any, name: str, classes: int) -> None:
    split, reader, files = part.split(name), part.masks(name), part.mask_files(name)
    if reader is None:
        hold(not files, "mask_files names files although masks() is None")
        return
    for sample in split.samples[:3]:
        mask = reader(sample.id)
        contracts.check_label(mask, scenes.size(sample), set(range(1, classes + 1)), f"the mask of {sample.id}")
    hold(set(files) <= {s.id for s in split}, "mask_files names ids that are not in the split")
    hold(classes < IGNORE, f"{classes} classes leave no value for ignored pixels")


def _refuses(call: Callable[[], object]) -> None:
    try:
        call()
    except (DataError, UsageError):
        return
    hold(False, "nothing was raised; raise DataError and name the splits there are")


def _id(part: Any, h: int, w: int, tags: tuple[int, ...]) -> tuple[str, ...]:
    return (scenes.name(h, w, tags),) if getattr(part, "wants_id", False) else ()


def _count(tags: tuple[int, ...]) -> str:
    return {0: "no tag", 1: "one tag"}.get(len(tags), f"{len(tags)} tags")
