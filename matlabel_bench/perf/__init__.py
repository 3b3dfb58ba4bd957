"""`bench perf`: what parts cost and how exact they are, beside the implementations they name as their reference.

A section is a list of steps; a step measures one subject in one setting once, its reference right behind it, and its
numbers are written before the next begins. Rounds go over all steps of a section, so that what else a machine does
falls on ours and theirs alike, and an interrupted run has something of everything. No part is known here by name: those
are measured that have `reference` (see spec.py).
"""

from __future__ import annotations

from matlabel_bench.perf.plan import SECTIONS, PerfOptions
from matlabel_bench.perf.run import run

__all__ = ["SECTIONS", "PerfOptions", "run"]
