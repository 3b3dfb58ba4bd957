"""KNN matting in torch (backend=torch) against PyMatting and the native solver in one thread: seconds, memory, alphas.

Photographs are resized to --size squared; trimaps of three classes are blobs cut at 0.75 and 0.2. Everything is called
in turns, after once for warming up; seconds are medians. Alphas in the unknown region are compared with the solution of
the same system in float64 to 1e-12, which tells what the solver leaves, and with the native solver's, which tells what
other ties among neighbours do.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 \\
        python docs/knn_gpu.py [--device cuda] [--size 512] [--batch 8] [--repeat 5] [--cpu 2] [--out FILE] IMAGE...
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from blobs import blobs

from matlabel_bench.images import read_image, resize_image
from matlabel_bench.types import Image, Trimap
from matlabel_mattings import knn_torch
from matlabel_mattings.knn import Knn
from matlabel_mattings.knn_torch import graph as graphs
from matlabel_mattings.knn_torch import search

SETTINGS = knn_torch.Settings()


class Clock:
    """Seconds of everything that was called, by name."""

    def __init__(self, device: str) -> None:
        self.device, self.seconds = device, defaultdict[str, list[float]](list)

    def sync(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)

    def call(self, name: str, work: Callable[[], Any]) -> Any:
        self.sync()
        start = time.perf_counter()
        result = work()
        self.sync()
        self.seconds[name].append(time.perf_counter() - start)
        return result

    def medians(self) -> dict[str, float]:
        return {name: float(np.median(s)) for name, s in self.seconds.items()}


def phases(clock: Clock, images: list[Image], trimaps: list[Trimap]) -> list[list[int]]:
    """Time every phase of a batch, waiting for the device after each; the iterations of each image's classes."""
    steps: list[list[int]] = []
    clock.sync()
    start = [time.perf_counter()]

    def watch(phase: str, result: Any) -> None:
        clock.sync()
        now = time.perf_counter()
        clock.seconds[f"phase {phase}"].append(now - start[0])
        if phase == "solve":
            steps.extend(result.steps.tolist())
        start[0] = time.perf_counter()

    knn_torch.mattes(images, trimaps, SETTINGS, clock.device, watch)
    clock.seconds["phase back"].append(time.perf_counter() - start[0])
    return steps


def exact(image: Image, trimap: Trimap, device: str) -> np.ndarray:
    """The alphas of an image, by conjugate gradients in float64 to 1e-12."""
    graph, order, planes = knn_torch.neighbourhood([image], [trimap], SETTINGS, device)
    system = knn_torch.systems(graph, planes, SETTINGS)
    diagonal, target = (graph.degree + system.held)[0].double(), system.target[0].double()
    twice, size = graph.links < 0, len(graph.links)
    links = torch.where(twice, -1 - graph.links, graph.links).view(-1)
    rows = torch.arange(size + 1, dtype=torch.int32, device=links.device) * graph.links.shape[1]
    found = torch.sparse_csr_tensor(rows, links, 1 + twice.view(-1).double(), (size, size))
    ones = torch.ones(len(graph.finders), dtype=torch.float64, device=links.device)
    finders = torch.sparse_csr_tensor(graph.starts, graph.finders, ones, (size, size))
    x, r = torch.zeros_like(target), target.clone()
    p, before = torch.zeros_like(r), torch.ones_like(r[:1])
    least = 1e-24 * target.square().sum(0, keepdim=True)
    for count in range(5000):
        z = r / diagonal
        now = (r * z).sum(0, keepdim=True)
        p = z + p * (now / before if count else 0)
        q = diagonal * p - found @ p - finders @ p
        step = torch.where(r.square().sum(0, keepdim=True) > least, now / (p * q).sum(0, keepdim=True), 0)
        if not step.any():
            break
        x, r, before = x + step * p, r - step * q, now
    alphas = knn_torch.finished(graph, planes, (system.start + x[None]).float())
    found: np.ndarray = knn_torch.by_pixel(order, alphas)[0, :, : trimap[0].size].reshape(trimap.shape)
    return found


def apart(ours: np.ndarray, theirs: np.ndarray, trimap: Trimap) -> dict[str, float]:
    """How far alphas of unknown pixels lie apart, and the share of all pixels whose label differs."""
    off = np.abs(ours - theirs)[trimap == 128]
    labels = float(((ours >= 0.5) != (theirs >= 0.5)).mean())
    return {"largest": float(off.max()), "mean": float(off.mean()), "labels": labels}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All numbers of the report."""
    size, device = options.size, options.device
    photos = [resize_image(read_image(Path(path)), (size, size)) for path in options.images]
    maps = [blobs(size, size, seed) for seed in range(len(photos))]
    batch = [i % len(photos) for i in range(options.batch)]
    images, trimaps = [photos[i] for i in batch], [maps[i] for i in batch]
    clock = Clock(device)
    native = Knn(backend="native").open(None)
    started = time.perf_counter()
    knn_torch.mattes(photos[:1], maps[:1], SETTINGS, device)
    first = time.perf_counter() - started
    knn_torch.mattes(images, trimaps, SETTINGS, device)

    def ours(chosen: list[int], classes: int) -> Callable[[], Any]:
        pair = [photos[i] for i in chosen], [maps[i][:classes] for i in chosen]
        return lambda: knn_torch.mattes(*pair, SETTINGS, device)

    differences = []
    steps: list[list[int]] = []
    for turn in range(options.repeat):
        i = turn % len(photos)
        for classes in (1, 3):
            clock.call(f"torch, 1 image, {classes} classes", ours([i], classes))
            clock.call(f"torch, {len(batch)} images, {classes} classes", ours(batch, classes))
        steps = phases(clock, images, trimaps)
        if turn < min(options.cpu, len(photos)):
            differences.append(processor(clock, native, photos[i], maps[i]))
    memory = {}
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
        ours(batch, 3)()
        memory = {"bytes": torch.cuda.max_memory_allocated(device)}
    alone = ours([0], 3)()[0]
    tight = apart(alone, exact(photos[0], maps[0], device), maps[0])
    together = max(float(np.abs(a - ours([i], 3)()[0]).max()) for i, a in zip(batch, ours(batch, 3)(), strict=True))
    return {
        "machine": machine(device), "size": size, "batch": len(batch), "first_call": first, "seconds": clock.medians(),
        "all_seconds": dict(clock.seconds), "iterations": steps, "to_tight": tight, "to_native": differences,
        "batch_to_single": together, "peak_memory": memory,
    }  # fmt: skip


def processor(clock: Clock, native: Callable[[Image, Trimap], Any], image: Image, trimap: Trimap) -> dict[str, float]:
    """Time PyMatting and the native solver; how far the native alphas are from those of torch."""
    import pymatting

    theirs: Any = None
    for classes in (1, 3):
        theirs = clock.call(f"native, {classes} classes", lambda n=classes: native(image, trimap[:n]))
        clock.call(
            f"pymatting, {classes} classes",
            lambda n=classes: [pymatting.estimate_alpha_knn(image / 255.0, plane / 255.0) for plane in trimap[:n]],
        )
    (ours,) = knn_torch.mattes([image], [trimap], SETTINGS, clock.device)
    return apart(ours, theirs, trimap)


def machine(device: str) -> dict[str, Any]:
    """What the numbers depend on."""
    there = torch.device(device)
    name = platform.processor() if device == "cpu" else torch.cuda.get_device_name(there)
    engines = {f"search, k = {k}": search.engine(there, k) for k in SETTINGS.neighbours}
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    return {"device": name, "torch": torch.__version__, **engines, "product": graphs.engine(there), **threads}


def report(found: dict[str, Any]) -> None:
    """The numbers, for people."""
    print(json.dumps(found["machine"]))
    print(f"{found['size']} x {found['size']}; the first call took {found['first_call']:.1f} s")
    seconds = found["seconds"]
    for name, value in seconds.items():
        images = found["batch"] if f", {found['batch']} images" in name or "phase" in name else 1
        line = f"{name:28} {1000 * value:10.2f} ms, {1000 * value / images:9.2f} ms an image"
        base = seconds.get(f"pymatting, {name[-9:]}")
        print(line + (f", {base * images / value:7.1f} x PyMatting" if base else ""))
    print("iterations of each class:", found["iterations"])
    print("alphas to a tight solution of the same system:", found["to_tight"])
    print("alphas to the native solver's:", found["to_native"])
    print(f"alphas of a batch to those one by one: {found['batch_to_single']:.1e}; peak memory: {found['peak_memory']}")


def main() -> None:
    parser = argparse.ArgumentParser(description="KNN matting in torch: seconds, memory, alphas")
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--cpu", type=int, default=2, help="photographs that PyMatting and the native solver get")
    parser.add_argument("--out", help="where the numbers go as JSON")
    options = parser.parse_args()
    found = measure(options)
    report(found)
    if options.out:
        Path(options.out).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
