"""Parts for the tests of the spine: cheap, deterministic, slow or failing on request. Installed by a path entry."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from matlabel_bench.errors import MattingFailed
from matlabel_bench.fields import knob
from matlabel_bench.progress import Progress, report
from matlabel_bench.spec import hookimpl


def _slow() -> None:
    time.sleep(float(os.environ.get("STUB_SECONDS", "0")))


def digest(array: np.ndarray) -> str:
    """Type, shape and content of an array."""
    return f"{array.dtype} {array.shape} {hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest()}"


def _called(what: str, image: np.ndarray) -> None:
    """A line a call, for tests that count them."""
    if log := os.environ.get("STUB_CALLS"):
        with Path(log).open("a") as out:
            out.write(f"{what} {digest(image)}\n")


@dataclass(frozen=True)
class StubCam:
    """Maps from colour: how far a pixel's channel stands above the others, one channel a class."""

    version: ClassVar[int] = 1
    gain: float = knob(1.0, "sharpness", low=0.1)
    fail: bool = knob(False, "fail on every image")

    def open(self, out):
        def cams(image, tags):
            _called("cam", image)
            if self.fail:
                raise RuntimeError("no maps today")
            small = image[::4, ::4].astype(np.float32)
            planes = [np.abs(small[..., int(t) % 3] - small.mean()) ** self.gain for t in tags]
            maps = np.zeros((len(tags), *small.shape[:2]), np.float32)
            for plane, values in zip(maps, planes, strict=True):
                plane[:] = values / max(float(values.max()), 1e-6)
            return maps

        return cams


@dataclass(frozen=True)
class StubTrained(StubCam):
    """StubCam behind a training that counts steps, keeps a checkpoint, and can be killed in between."""

    trains: ClassVar[bool] = True
    epochs: int = knob(20, "steps")
    broken: bool = knob(False, "fail at once")

    def fit(self, train, out: Path, seed: int) -> None:
        if self.broken:
            raise RuntimeError("loss is nan")
        state = out / "state.json"
        start = json.loads(state.read_text()) if state.is_file() else {"step": 0, "sum": seed}
        total = start["sum"]
        for step in range(start["step"], self.epochs):
            _slow()
            total = (total * 31 + step) % 1009
            state.write_text(json.dumps({"step": step + 1, "sum": total}))
            report(out, Progress(step + 1, self.epochs, note=f"sum {total}"))

    def open(self, out: Path):
        gain = 1 + json.loads((out / "state.json").read_text())["sum"] / 1009
        return StubCam(gain=gain, fail=self.fail).open(out)


@dataclass(frozen=True)
class StoredCam:
    """Maps that a trained network once wrote, found by the digest of the image's pixels."""

    version: ClassVar[int] = 1
    folder: str = knob("", "where NAME.npz files lie, NAME = digest of the pixels", key="none")

    def open(self, out):
        def cams(image, tags):
            name = hashlib.blake2b(image.tobytes(), digest_size=12).hexdigest()
            with np.load(Path(self.folder) / f"{name}.npz", allow_pickle=False) as data:
                return data["cams"].astype(np.float32)

        return cams


@dataclass(frozen=True)
class StubMatting:
    """Alpha 0.6 wherever the trimap is unknown; gives up on images whose mean is even, if asked to."""

    version: ClassVar[int] = 1
    moody: bool = knob(False, "raise MattingFailed on some images")

    def open(self, out):
        def matting(image, trimap):
            _called("matting", image)
            _slow()
            if self.moody and int(image.sum()) % 2 == 0:
                raise MattingFailed("an odd image", "an even one", "accept the map")
            return np.where(trimap == 128, np.float32(0.6), trimap.astype(np.float32) / 255)

        return matting


@dataclass(frozen=True)
class StubRefiner:
    """Shifts scores one pixel to the right, keeping the first column."""

    version: ClassVar[int] = 1

    def open(self, out):
        return lambda image, tags, scores: np.concatenate([scores[..., :1], scores[..., :-1]], axis=-1)


@hookimpl
def matlabel_register(registry):
    registry.add("cam", "stub-cam", StubCam)
    registry.add("cam", "stub-trained", StubTrained)
    registry.add("cam", "stored", StoredCam)
    registry.add("matting", "stub-matting", StubMatting)
    registry.add("refiner", "stub-shift", StubRefiner)
    import stub_learned
    import stub_measured

    stub_learned.register(registry)
    stub_measured.register(registry)


@hookimpl
def matlabel_stage_done(stage, key, folder, record):
    if log := os.environ.get("STUB_LOG"):
        with Path(log).open("a") as out:
            out.write(f"{stage} {record['part']}\n")


@hookimpl
def matlabel_columns(cell):
    return {"letters": len(cell["row"])} if os.environ.get("STUB_COLUMNS") else None
