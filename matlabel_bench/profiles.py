"""Profiles: at which size to run, as TOML files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matlabel_bench.errors import UsageError
from matlabel_bench.tables import home, only, read_toml


@dataclass(frozen=True, slots=True)
class Profile:
    """At which size to run: data set, splits, seeds, and the fields of parts."""

    name: str
    dataset: str
    fit_split: str
    split: str
    seeds: tuple[int, ...]
    parts: Mapping[str, Mapping[str, Any]]
    label_split: str
    """Split whose pseudo-labels train refiners and segmenters."""


def profiles() -> dict[str, Path]:
    """Names of the profiles that come with the project."""
    return {p.stem: p for p in sorted((home() / "profiles").glob("*.toml"))}


def load_profile(name: str) -> Profile:
    """A profile by name or by the path of a TOML file. Raises UsageError with near misses."""
    raw = read_toml(name, profiles(), "profile")
    run = raw.pop("run", {})
    who = f"[run] of profile {raw.get('name', name)!r}"
    if not isinstance(run, dict):
        raise UsageError(f"{who} to be a section", f"run = {run!r}", "write [run] and its fields below it")
    only(run, {"dataset", "fit_split", "label_split", "split", "seeds"}, who)
    if missing := {"dataset", "fit_split", "split"} - set(run):
        raise UsageError(
            f"{who} to say {', '.join(sorted(missing))}", ", ".join(run) or "nothing", "see configs/profiles/tiny.toml"
        )
    title = raw.pop("name", Path(name).stem)
    for key, value in {"name": title, **{k: v for k, v in run.items() if k != "seeds"}}.items():
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"{key} of profile {title!r} to be a text", repr(value), f'write {key} = "..."')
    for part, values in raw.items():
        if not isinstance(values, dict):
            raise UsageError(
                "a profile to hold sections named by part",
                f"{part} = {values!r}",
                f"write [{part}] and its fields below it",
            )
    seeds = check_seeds(run.get("seeds", [0]), f"seeds in {who}")
    label_split: str = run.get("label_split") or run["fit_split"]
    return Profile(title, run["dataset"], run["fit_split"], run["split"], seeds, raw, label_split)


def check_seeds(seeds: Any, who: str) -> tuple[int, ...]:
    """The seeds, if they are different whole numbers that every random generator takes. Raises UsageError."""
    fits = isinstance(seeds, list | tuple) and all(type(s) is int and 0 <= s < 2**32 for s in seeds)
    if not fits or not seeds or len(set(seeds)) < len(seeds):
        got = ", ".join(map(str, seeds)) or "none" if isinstance(seeds, list | tuple) else repr(seeds)
        raise UsageError(f"{who} as different whole numbers from 0", got, "for example 0, 1, 2")
    return tuple(seeds)
