"""perf.md: the lines of perf.csv as tables for people, with what they were measured on and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matlabel_bench.perf.book import MISSING
from matlabel_bench.report.text import md, md_table

if TYPE_CHECKING:
    import pandas as pd

DASH = "—"
PAIRS = (
    ("s", "seconds"),
    ("reference s", "reference seconds"),
    ("speed", "speed ratio"),
    ("MiB", "peak memory"),
    ("reference MiB", "reference peak memory"),
    ("memory", "memory ratio"),
)
EXACTNESS = (
    ("largest", "largest alpha difference"),
    ("mean", "mean alpha difference"),
    ("labels, %", "labels that differ"),
    ("reference largest", "reference largest alpha difference"),
    ("reference mean", "reference mean alpha difference"),
    ("reference labels, %", "reference labels that differ"),
    ("unknown, %", "unknown pixels"),
)
TABLES: tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "mattings",
        "Mattings beside their reference",
        "Speed: the reference's seconds over ours, the median over rounds (least to greatest). Memory: our peak over "
        "the reference's, of one call in a process of its own, beyond what it held before. The reference is called "
        "as its users call it, once a class.",
        PAIRS,
    ),
    (
        "mattings",
        "Mattings against the exact solution",
        "Alphas of unknown pixels against the system solved to float64's precision: the largest difference of all "
        "rounds, the mean, and the share of all pixels whose label (the greatest alpha above one half) differs.",
        EXACTNESS,
    ),
    (
        "mattings",
        "First use",
        "Seconds by the clock until a part has answered once, in a fresh process: where nothing compiled is kept yet, "
        "and after that.",
        (("first", "first use"), ("next", "next use")),
    ),
    (
        "seed",
        "Seconds for the seed of one image",
        "From the image to its maps at its size and, for rows with a matting, to its alphas. Networks have the "
        "profile's backbone, stride and scales, and weights of a moment's training, on which their time does not "
        "depend. Their maps are put aside: a matting gets maps like those of a trained network; one that takes several "
        "images at once gets several, and seconds are divided. Published seconds are of another machine: compare "
        "ratios.",
        (
            ("s", "seconds"),
            ("ratio", "ratio to the first row"),
            ("published s", "published seconds"),
            ("published ratio", "published ratio"),
        ),
    ),
    (
        "refiners",
        "Refiners beside their reference",
        "As for mattings; labels: the share of pixels whose label is not the reference's. Where only a piece of a "
        "refiner has a counterpart, that piece is measured, at a size at which the reference takes seconds.",
        (*PAIRS, ("labels, %", "labels unlike the reference")),
    ),
    (
        "labels",
        "Pseudo-labels a second",
        "By the clock, which other work on the machine lengthens, from image files to label files: maps (given, or "
        "drawn by the row's network), trimap, alpha, label. One worker is the process itself.",
        (
            ("images/s", "images per second"),
            ("to one worker", "ratio to one worker"),
            ("s of a core an image", "seconds of a core an image"),
        ),
    ),
    (
        "growth",
        "Growth with the image's size and the number of classes",
        "Seconds of our mattings.",
        (("s", "seconds"),),
    ),
)
RANGED = {"speed ratio", "ratio to one worker", "ratio to the first row"}
"""Metrics that show their least and greatest."""


def markdown(frame: pd.DataFrame, facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The page. `facts`: what the record holds; `rows`: the steps, for their load."""
    lines = ["# Speed, memory and exactness", "", f"`{facts['command']}`", "", *_machine(facts, rows), ""]
    lines += [
        "Seconds are of computing (CPU time) in one thread, which other work on the machine lengthens little, or of "
        "the clock where a part runs on a graphics card. Ours and the reference are called in turns, round after "
        "round, each round on the next photograph; numbers are medians over rounds, with least and greatest in "
        "perf.csv. Trimaps are cut at 0.75 and 0.2 from blobs like class activation maps.",
        "",
    ]
    for section, title, how, columns in TABLES:
        lines += _table(frame[frame["section"] == section], title, how, columns)
    missing = frame[frame["metric"] == MISSING]
    if len(missing):
        lines += ["## Missing", ""]
        lines += [
            f"- {r['section']}, {r['subject']}, {r['setting']}: {md(str(r['note']))}" for _, r in missing.iterrows()
        ]
    return "\n".join(lines).rstrip() + "\n"


def _machine(facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    environment = facts["environment"]
    hardware, source = environment["hardware"], environment["source"]
    loads = [r["load"] for r in rows if r["load"] is not None]
    versions = ", ".join(f"{name} {text}" for name, text in environment["versions"].items())
    vectors = f" ({' '.join(hardware['vectors'])})" if hardware["vectors"] else ""
    cores = f"{hardware['cores']} of {hardware['cores_of_machine']} cores"
    lines = [
        f"{hardware['cpu']}{vectors}, {cores}, {hardware['memory_gib']} GiB",
        f"graphics cards: {', '.join(hardware['gpus']) or 'none'}; device: {facts['about']['options']['device']}",
        f"threads: {', '.join(f'{n} {c}' for n, c in facts['about']['threads'].items())}",
        f"matlabel_bench {environment['matlabel_bench']}, Python {environment['python']}, {versions}",
        f"photographs: {facts['about']['photographs']['count']}",
    ]
    lines += [f"commit {source['commit'][:12]}{' and changes' * source['dirty']}"] if source else []
    lines += [f"load of the machine while measuring: {min(loads):.1f} to {max(loads):.1f}"] if loads else []
    return [f"- {md(line)}" for line in lines]


def _table(frame: pd.DataFrame, title: str, how: str, columns: Sequence[tuple[str, str]]) -> list[str]:
    """A section's table: a line for each subject and setting; nothing where nothing was measured."""
    wanted = frame[frame["metric"].isin([metric for _, metric in columns])]
    if not len(wanted):
        return []
    found = {(r["subject"], r["setting"], r["metric"]): r for _, r in wanted.iterrows()}
    order = list(dict.fromkeys(subject for subject, _, _ in found))
    places = sorted({(s, t) for s, t, _ in found}, key=lambda place: [order.index(place[0]), *_natural(place[1])])
    body = [
        [md(subject), md(setting), *(_shown(found.get((subject, setting, metric))) for _, metric in columns)]
        for subject, setting in places
    ]
    rounds = max(int(r["n"]) for r in found.values())
    heads = ["part", "setting", *(head for head, _ in columns)]
    return [f"## {title}", "", how, f"Rounds: {rounds}.", "", *md_table(heads, body)]


def _shown(line: Any) -> str:
    """The number of a line of the frame, a dash for None."""
    if line is None:
        return DASH
    text = _number(line["value"])
    if line["metric"] in RANGED and line["n"] > 1:
        text += f" ({_number(line['low'])} to {_number(line['high'])})"
    return text


def _number(value: float) -> str:
    """Three digits that count, two with a power of ten for what is very small."""
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1e}"


def _natural(setting: str) -> Sequence[Any]:
    """Words of a setting by which 512 comes before 1024."""
    return [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in setting.replace("x", " ").split()]
