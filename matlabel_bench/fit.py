"""A training as a process of its own: `python -m matlabel_bench.fit JOB.json`, alone or under torch's launcher.

The main process writes the job as JSON, starts this module, reads its progress and its end from files, and ends it by
ending itself. Nothing is pickled, and what dies here takes no other work with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matlabel_bench.errors import BenchError, TrainingFailed
from matlabel_bench.recipe import ABOUT
from matlabel_bench.splits import usable
from matlabel_bench.store import read_json, write_json
from matlabel_bench.workers import pin_threads

JOB, ERROR, LOG, THREADS = "job.json", "error.json", "fit.log", "threads.json"


class Fit:
    """A training that runs beside the main process. `folder` receives log and job; `out` the weights."""

    def __init__(self, folder: Path, out: Path, spec: Mapping[str, Any], *, threads: int, processes: int) -> None:
        self.folder, self.out, self.started = folder, out, time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            (folder / ERROR).unlink()
        threads = _fixed_threads(folder, threads)
        write_json(folder / JOB, dict(spec) | {"out": str(out.resolve()), "threads": threads})
        launcher = (
            ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
        )
        command = [sys.executable, *launcher, "-m", "matlabel_bench.fit", str((folder / JOB).resolve())]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        with (folder / LOG).open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, preexec_fn=_die_with_parent
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        """End the training; its checkpoints stay."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()

    def error(self) -> BenchError | None:
        """Why the finished training failed; None where it did not."""
        if self.process.returncode == 0:
            return None
        log = self.folder / LOG
        try:
            said = read_json(self.folder / ERROR)
            return TrainingFailed(said["expected"], said["got"], f"{said['remedy']} (log: {log})")
        except BenchError:
            code = self.process.returncode
            why = (
                f"exit code {code}"
                if code >= 0
                else f"ended by signal {-code}" + (" (out of memory?)" if code == -9 else "")
            )
            return TrainingFailed(
                "the training to end well", why, f"read {log}; the same command goes on from the last checkpoint"
            )


def main(path: str) -> int:
    """Run the training a job file describes; its error, if any, is left beside the file."""
    spec = read_json(Path(path))
    folder = Path(path).parent
    pin_threads(int(spec["threads"]))
    _watch_parent()
    try:
        _train(spec)
    except BenchError as err:
        write_json(folder / ERROR, {"expected": err.expected, "got": err.got, "remedy": err.remedy})
        traceback.print_exc()
        return 1
    except Exception as err:
        got = f"{type(err).__name__}: {err}"
        remedy = "free space or memory where it says so; the same command goes on from the last checkpoint"
        write_json(folder / ERROR, {"expected": f"{spec['name']} to train", "got": got, "remedy": remedy})
        traceback.print_exc()
        return 1
    return 0


def _train(spec: Mapping[str, Any]) -> None:
    import torch

    from matlabel_bench import registry

    torch.set_num_threads(int(spec["threads"]))
    parts, _ = registry.start()
    dataset = parts.make("dataset", spec["dataset"]["name"], **spec["dataset"]["fields"])
    part = parts.make(spec["kind"], spec["name"], **spec["fields"])
    split, given = usable(dataset, spec["split"]), []
    if spec["kind"] in ("refiner", "segmenter"):
        given = [_given(part, split, spec["inputs"], labels=spec["kind"] == "segmenter")]
    stem = {"stem": Path(spec["inputs"]["stem"])} if spec["inputs"]["stem"] else {}
    part.fit(split, *given, Path(spec["out"]), int(spec["seed"]), **stem)


def _given(part: Any, split: Any, inputs: Mapping[str, Any], labels: bool) -> Mapping[str, Any]:
    """What the training learns from, by image id: labels, or the maps or scores of seeds."""
    from matlabel_bench import handover

    told: dict[str, Any] = {k: v if k == "threshold" or v is None else Path(v) for k, v in inputs.items()}
    known = handover.Inputs(**told)
    takes = "labels" if labels else getattr(part, "takes", "scores")
    loads = {"labels": handover.load_label, "maps": handover.load_values, "scores": handover.load_scores}
    return handover.Given(split, known, loads[takes])


def threads_of(folder: Path) -> int | None:
    """Threads with which the training in a folder of the store began; None where it has not begun."""
    path = folder / THREADS
    return int(read_json(path)["threads"]) if path.is_file() else None


def arithmetic_of(out: Path) -> str:
    """What the networks of a training in the store computed in; empty for a training that is not `train.run`'s."""
    with contextlib.suppress(BenchError):
        return str(read_json(out / ABOUT).get("arithmetic", ""))
    return ""


def _fixed_threads(folder: Path, threads: int) -> int:
    """Threads the training began with: another number would change the last bits of what is resumed."""
    if (begun := threads_of(folder)) is not None:
        return begun
    write_json(folder / THREADS, {"threads": threads})
    return threads


def _die_with_parent() -> None:
    """On Linux, let the kernel end this process with its parent, however that dies."""
    if sys.platform == "linux":
        death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(death_signal, signal.SIGTERM)


def _watch_parent() -> None:
    """Elsewhere, and under a launcher: end when the parent is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
