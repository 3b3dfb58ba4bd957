"""Goes through the steps: what is there is taken, each new number is written before the next is measured."""

from __future__ import annotations

import hashlib
import importlib
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import matlabel_bench
from matlabel_bench import record, registry
from matlabel_bench.console import Bar
from matlabel_bench.fields import canonical
from matlabel_bench.files import write_text
from matlabel_bench.perf import growth, labels, mattings, page, refiners, seed
from matlabel_bench.perf.book import Book
from matlabel_bench.perf.plan import SECTIONS, Bench, PerfOptions, Step
from matlabel_bench.perf.scenes import digest_of
from matlabel_bench.store import write_json

Say = Callable[[str], None]
STEPS: dict[str, ModuleType] = {m.SECTION: m for m in (mattings, seed, refiners, labels, growth)}
CSV, MARKDOWN, RECORD, ROUNDS = "perf.csv", "perf.md", "perf.record.json", "perf.rounds.jsonl"


@dataclass(frozen=True)
class PerfResult:
    """Where the report lies, steps measured, and steps of which something is missing."""

    report: Path
    steps: int
    missing: int


def run(options: PerfOptions, say: Say) -> PerfResult:
    """Measure, and write perf.csv, perf.md and perf.record.json into `options.out`, after every step anew.

    Raises:
        UsageError, DataError: before anything is measured. OSError: nothing more can be written; what is there stays.
    """
    with tempfile.TemporaryDirectory(prefix="matlabel-perf-") as scratch:
        bench = Bench(options, Path(scratch))
        steps = [step for name in SECTIONS if name in options.only for step in STEPS[name].steps(bench)]
        about = _about(bench)
        book = Book(options.out / ROUNDS, hashlib.sha256(canonical(about).encode()).hexdigest()[:16])
        _write(book, options, about)
        left = [step for step in steps if not book.has(step.place)]
        say(f"{len(steps)} steps, {len(steps) - len(left)} of them measured before -> {options.out}")
        missing = _measure(book, left, len(steps), options, about, say)
    return PerfResult(options.out / MARKDOWN, len(steps), missing)


def _measure(book: Book, left: list[Step], total: int, options: PerfOptions, about: dict[str, Any], say: Say) -> int:
    """Do the steps that are left; how many lack something."""
    missing, section = 0, ""
    with Bar("bench perf", total, "step", say) as bar:
        bar.at(total - len(left))
        for number, step in enumerate(left, 1 + total - len(left)):
            place = step.place
            if place.section != section:
                section = place.section
                say(f"[{list(SECTIONS).index(section) + 1}/{len(SECTIONS)}] {section}")
            begun = time.monotonic()
            values, reason = step.work()
            book.add(place, values, reason)
            _write(book, options, about)
            missing += bool(reason)
            if reason:
                say(f"  MISSING {place.subject}, {place.setting}: {reason}")
            bar.at(number, f"{place.subject}, {place.setting}, {time.monotonic() - begun:.0f} s")
    return missing


def _write(book: Book, options: PerfOptions, about: dict[str, Any]) -> None:
    """The report as far as it goes."""
    environment = record.environment()
    load = list(os.getloadavg()) if hasattr(os, "getloadavg") else None
    facts = {"command": command(options), "environment": environment, "about": about, "load": load}
    book.write(options.out / CSV)
    write_json(options.out / RECORD, record.scrub(facts))
    write_text(options.out / MARKDOWN, page.markdown(book.frame(), facts, book.rows))


def command(options: PerfOptions) -> str:
    """The command line again, with folders by their role: a record names no one's machine."""
    words = ["bench", "perf"]
    words += ["--only", *options.only] if options.only != SECTIONS else []
    words += ["--part", *options.parts] if options.parts else []
    words += ["--repeat", str(options.repeat), "--workers", str(options.workers), "--device", options.device]
    words += ["--images", "DIR"] if options.images else []
    words += ["--dataset", options.dataset] if options.dataset else []
    words += ["--data-root", "DIR"] if options.data_root else []
    words += ["--profile", options.profile] if options.profile != "paper" else []
    words += [w for s in options.sets for w in ("--set", str(record.scrub(s)))]
    words += ["--quick"] * options.quick
    return shlex.join(words)


def _about(bench: Bench) -> dict[str, Any]:
    """What two runs must share for their numbers to stand in one table."""
    options, environment = bench.options, record.environment()
    return {
        "hardware": environment["hardware"],
        "versions": environment["versions"],
        "threads": {k: v for k, v in environment["threads"].items() if k != "torch"},
        "code": _code(),
        "photographs": {"count": len(bench.photos), "digest": digest_of(bench.photos)},
        "options": {
            "device": options.device,
            "profile": options.profile,
            "workers": options.workers,
            "set": list(options.sets),
            "quick": options.quick,
        },
    }


def _code() -> str:
    """Digest of the sources of this package and of all packages that parts come from."""
    names = {matlabel_bench.__name__, *(e.cls.__module__.partition(".")[0] for e in registry.start()[0])}
    digest = hashlib.sha256()
    for path in (file for name in sorted(names) for file in _sources(name)):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _sources(name: str) -> Iterator[Path]:
    found = getattr(sys.modules.get(name) or importlib.import_module(name), "__file__", None)
    if found is not None:
        path = Path(found)
        yield from sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
