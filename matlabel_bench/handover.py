"""The files that stages hand on: where an image's file lies, and what later stages read from it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from matlabel_bench.errors import DataError
from matlabel_bench.files import write_bytes
from matlabel_bench.images import UNREADABLE, enlarge, read_label
from matlabel_bench.label import make_scores
from matlabel_bench.planes import read_planes
from matlabel_bench.types import Alpha, Cams, Label, Sample, Scores, Split

ARRAYS = ("maps", "views")
"""Stages whose files are npz; all others write PNG."""


@dataclass(frozen=True)
class Inputs:
    """Folders of the stages that a stage starts from, and the threshold of its seed."""

    fit: Path | None = None
    """Weights of the part itself."""
    stem: Path | None = None
    """Weights of the training that the part's own goes on from."""
    matting: Path | None = None
    """Weights of a matting that is timed together with the maps it starts from."""
    maps: Path | None = None
    views: Path | None = None
    trimap: Path | None = None
    alpha: Path | None = None
    labels: Path | None = None
    threshold: float | None = None


def output(stage: str, folder: Path, image: str) -> Path:
    """The file of an image in a stage's folder. Ids may hold any character."""
    name = quote(image, safe=" ")
    if name.startswith("."):
        name = "%2E" + name[1:]  # hidden files are work in progress to the store
    return folder / (name + (".npz" if stage in ARRAYS else ".png"))


def write_maps(path: Path, size: tuple[int, ...], **maps: Cams) -> None:
    """Maps on their grid as float16, and the size, h w, of the image they belong to."""
    buffer = io.BytesIO()
    small: dict[str, Any] = {name: values.astype(np.float16) for name, values in maps.items()}
    np.savez_compressed(buffer, **small, size=np.asarray(size, np.int32))
    write_bytes(path, buffer.getvalue())


def load_maps(inputs: Inputs, sample: Sample) -> Cams:
    """The maps of an image at its own size, float32 k h w. Raises DataError for a damaged file."""
    return _enlarged(output("maps", _need(inputs.maps), sample.id), "cams")[0]


def load_views(inputs: Inputs, sample: Sample) -> tuple[Cams, Cams]:
    """Mean and standard deviation over views, at the image's size."""
    mean, spread = _enlarged(output("views", _need(inputs.views), sample.id), "cams", "spread")
    return mean, spread


def load_seed(inputs: Inputs, sample: Sample) -> tuple[Cams, Cams | None]:
    """What the seed is made of: alphas with the maps as tie break, or the maps alone."""
    maps = load_maps(inputs, sample)
    if inputs.alpha is None:
        return maps, None
    alpha: Alpha = read_planes(output("alpha", inputs.alpha, sample.id))[0].astype(np.float32) / 255
    return alpha, maps


def load_values(inputs: Inputs, sample: Sample) -> Cams:
    """What a refiner gets that takes maps: the seed before any threshold, or an earlier label as planes of 0 and 1."""
    if inputs.labels is None:
        return load_seed(inputs, sample)[0]
    label = load_label(inputs, sample)
    planes: Cams = (label == np.asarray(sample.tags, np.int64)[:, None, None]).astype(np.float32)
    return planes


def load_scores(inputs: Inputs, sample: Sample) -> Scores:
    """Scores for a refiner: of the seed at its threshold, or one-hot of an earlier refiner's label."""
    if inputs.labels is not None:
        label = load_label(inputs, sample)
        planes = [label == c for c in (0, *sample.tags)]
        planes[0] |= label == 255
        return np.stack(planes).astype(np.float32)
    if inputs.threshold is None:
        raise ValueError("a refiner needs the threshold of its seed")
    maps, tie = load_seed(inputs, sample)
    return make_scores(maps, inputs.threshold, tie)


def load_label(inputs: Inputs, sample: Sample) -> Label:
    return read_label(output("refine", _need(inputs.labels), sample.id), 254)


class Given(Mapping[str, np.ndarray]):
    """What a training is given for each image, by id, read when it is asked for."""

    def __init__(self, split: Split, inputs: Inputs, load: Callable[[Inputs, Sample], np.ndarray]) -> None:
        self.samples = {s.id: s for s in split}
        self.inputs, self.load = inputs, load

    def __getitem__(self, image: str) -> np.ndarray:
        return self.load(self.inputs, self.samples[image])

    def __iter__(self) -> Iterator[str]:
        return iter(self.samples)

    def __len__(self) -> int:
        return len(self.samples)


def _enlarged(path: Path, *names: str) -> list[Cams]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as data:
            found = [data[name].astype(np.float32) for name in names]
            size = tuple(int(n) for n in data["size"])
    except (*UNREADABLE, KeyError, zipfile.BadZipFile) as err:
        raise DataError("a file of maps of this program", f"{path} ({err})", "run `bench store verify`") from err
    return [enlarge(maps, (size[0], size[1])) for maps in found]


def _need(folder: Path | None) -> Path:
    if folder is None:
        raise ValueError("the plan gave this stage no such input")
    return folder
