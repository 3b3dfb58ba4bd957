"""A report as CSV, Markdown (as GitHub renders it) and LaTeX (booktabs). Same report, same bytes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

from matlabel_bench.report.figures import figure
from matlabel_bench.report.frame import PICTURES, Printed, Report, interval
from matlabel_bench.report.model import Extras

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "—": "---", "–": "--", "†": r"\dag{}", "×": r"$\times$", "±": r"$\pm$", "≠": r"$\neq$", "→": r"$\rightarrow$",
    "↓": r"$\downarrow$", "−": "$-$", "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "λ": r"$\lambda$",
    "μ": r"$\mu$", "τ": r"$\tau$", "ε": r"$\varepsilon$", "…": r"\dots{}",
    "[": "{[}", "]": "{]}",  # a bracket after \\ would be read as its argument
}  # fmt: skip


def to_csv(report: Report) -> str:
    """Rows and columns as printed, as plain text; reasons of dashes are in cells.csv."""
    return str(report.frame().map(str).to_csv(lineterminator="\n"))


def to_markdown(report: Report) -> str:
    """The table, its legend and footnotes, differences between rows and the score after every stage."""
    info = report.info
    lines = [f"# {md(info.name)}{md(f': {info.title}') if info.title else ''}", ""]
    lines += [f"**{md(report.warning)}**", ""] if report.warning else []
    lines += [" · ".join(f"{name}: {md(text)}" for name, text in report.face), ""]
    heads = [f"{md(h.name)}<br><sub>{md(h.small)}</sub>" if h.small else md(h.name) for h in report.headings]
    names = [md(row) + report.sign(row) + _md_marks(report.row_notes[row]) for row in info.rows]
    body = [[name, *map(_md_cell, line)] for name, line in zip(names, report.body, strict=True)]
    lines += md_table([md(info.row_label), *heads], body)
    lines += [f"- <sup>{sign}</sup> {md(text)}" for sign, text in report.legend]
    lines += [f"- <sup>{n}</sup> {md(text)}" for n, text in enumerate(report.footnotes, 1)]
    lines += [f"- published: {md(report.published)}"] if report.published else []
    lines += ["", *_md_figures(report), *_md_stages(report.extras), *_md_differences(report.extras)]
    return "\n".join(lines).rstrip() + "\n"


def to_latex(report: Report) -> str:
    """A `table` with booktabs rules; notes stand below it."""
    info = report.info
    caption = tex(". ".join(p for p in (info.title or info.name, report.warning) if p))
    parts = [tex(f"{name}: {text}") for name, text in report.face]
    heads = [tex(h.name) + (r" {\footnotesize published}" if h.small else "") for h in report.headings]
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{_label(info.name)}}}"]
    lines += [rf"\begin{{tabular}}{{l{''.join('l' if h.words else 'r' for h in report.headings)}}}", r"\toprule"]
    lines += [" & ".join([tex(info.row_label), *heads]) + r" \\", r"\midrule"]
    for row, line in zip(info.rows, report.body, strict=True):
        name = tex(row + report.sign(row)) + _tex_marks(report.row_notes[row])
        lines.append(" & ".join([name, *map(_tex_cell, line)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", "", r"\par\smallskip\footnotesize", r"; ".join(parts) + "."]
    lines += [rf"\textsuperscript{{{tex(sign)}}}~{tex(text)}." for sign, text in report.legend]
    lines += [rf"\textsuperscript{{{n}}}~{tex(text)}." for n, text in enumerate(report.footnotes, 1)]
    lines += [f"Published: {tex(report.published)}."] if report.published else []
    return "\n".join([*lines, r"\end{table}", *_tex_gallery(report)]) + "\n"


def extra_files(extras: Extras) -> dict[str, str]:
    """Differences, stages, curves, classes (a header alone where there are none) and chosen pictures, name -> CSV."""
    classes = (
        (c.row, c.column, name, "" if math.isnan(v) else f"{v:.2f}")
        for c in extras.classes
        for name, v in zip(extras.class_names, c.values, strict=True)
    )
    return {
        "differences.csv": _csv(
            "row_a,row_b,column,difference,low,high,classes",
            ((d.row_a, d.row_b, d.column, *map(_two, (d.difference, d.low, d.high)), d.classes)
             for d in extras.differences),
        ),
        "stages.csv": _csv(
            "row,stage,value,low,high,threshold,threshold_rule",
            ((s.row, s.stage, *map(_two, (s.value, s.low, s.high, s.threshold)), s.threshold_rule)
             for s in extras.stages),
        ),
        "curves.csv": _csv(
            "row,threshold,value",
            ((c.row, f"{j / 100:.2f}", _two(v)) for c in extras.curves for j, v in enumerate(c.values)),
        ),
        "classes.csv": _csv("row,column,class,iou", classes),
        **_gallery_file(extras),
    }  # fmt: skip


def _gallery_file(extras: Extras) -> dict[str, str]:
    if extras.gallery is None:
        return {}
    rows = ((c.id, c.shown, _two(c.before), _two(c.after), _two(c.after - c.before)) for c in extras.gallery.chosen)
    return {"pictures.csv": _csv("image,shown,before,after,change", rows)}


def md(text: str) -> str:
    """Text that GitHub shows as it is: inside a table cell, outside code."""
    for sign in "\\`*_[]<>|~#":
        text = text.replace(sign, "\\" + sign)
    return text.replace("\n", " ")


def md_table(heads: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, first column to the left and numbers to the right, with the blank line it ends on."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return [*(f"| {' | '.join(line)} |" for line in (heads, rule, *body)), ""]


def tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text).replace("\n", " ")


def _md_cell(cell: Printed) -> str:
    return md(cell.text) + _md_marks(([cell.mark] if cell.mark else []) + list(cell.notes))


def _md_marks(marks: Sequence[object]) -> str:
    return f"<sup>{', '.join(map(str, marks))}</sup>" if marks else ""


def _tex_cell(cell: Printed) -> str:
    return tex(cell.text) + _tex_marks(([cell.mark] if cell.mark else []) + list(cell.notes))


def _tex_marks(marks: Sequence[object]) -> str:
    return rf"\textsuperscript{{{','.join(map(str, marks))}}}" if marks else ""


def _tex_gallery(report: Report) -> list[str]:
    gallery = report.extras.gallery
    if gallery is None:
        return []
    caption = " ".join(p for p in (gallery.rule, PICTURES, report.warning and f"{report.warning}.") if p)
    picture = rf"\includegraphics[width=\linewidth]{{{gallery.file}}}"
    return [r"\begin{figure}", r"\centering", picture, rf"\caption{{{tex(caption)}}}", r"\end{figure}"]


def _label(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def _md_figures(report: Report) -> list[str]:
    """The drawing of a sweep, or a gallery with the numbers of its images."""
    gallery = report.extras.gallery
    out = ["![The table's numbers, drawn](figure.svg)", ""] if figure(report) else []
    if gallery is None:
        return out
    heads = ["image", "class shown", md(gallery.before), md(gallery.after), "change"]
    body = [
        [md(c.id), md(c.shown), *(interval(v, None, None) for v in (c.before, c.after)),
         interval(c.after - c.before, None, None, sign=True)]
        for c in gallery.chosen
    ]  # fmt: skip
    said = md(f"{gallery.rule} {PICTURES}")
    return [*out, "## Pictures", "", said, "", f"![One line an image]({gallery.file})", "", *md_table(heads, body)]


def _md_stages(extras: Extras) -> list[str]:
    if not extras.stages:
        return []
    found = {(s.row, s.stage): interval(s.value, s.low, s.high) for s in extras.stages}
    rows: dict[str, list[str]] = {}
    for score in extras.stages:
        rows.setdefault(score.row, []).append(score.stage)
    longest = sorted(rows.values(), key=len, reverse=True)  # the row with most stages says their order
    stages = list(dict.fromkeys(stage for names in longest for stage in names))
    body = [[md(row), *(md(found.get((row, stage), "")) for stage in stages)] for row in rows]
    return ["## Score after every stage", "", *md_table(["row", *map(md, stages)], body)]


def _md_differences(extras: Extras) -> list[str]:
    if not extras.differences:
        return []
    body = [
        [f"{md(d.row_a)} − {md(d.row_b)}", md(d.column), md(interval(d.difference, d.low, d.high, sign=True))]
        for d in extras.differences
    ]
    why = "Paired over images, with 95 % interval: one that holds 0 is no difference shown by these images."
    return ["## Differences between rows", "", why, "", *md_table(["rows", "column", "difference"], body)]


def _csv(header: str, rows: Iterable[Iterable[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header.split(","))
    writer.writerows(rows)
    return out.getvalue()


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
