"""What the README says is true: its table is the committed one, its commands are commands, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from matlabel_bench.cli.parser import build, parse

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    for line in block.splitlines()
    if line.startswith("bench ")
]


def test_the_table_is_the_committed_one() -> None:
    assert subprocess.run([sys.executable, ROOT / "docs" / "readme.py", "--check"], check=False).returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str) -> None:
    assert parse(build(), shlex.split(command)[1:]).command


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 5


def test_the_first_screen_holds_the_two_commands() -> None:
    lines = [line for line in TEXT.splitlines() if line.startswith("python3 -m venv")]
    assert len(lines) == 2
    assert lines[0].endswith("bench run table1")
    assert lines[1].endswith("pytest")
    assert TEXT.splitlines().index(lines[1]) < 40


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", TEXT))
def test_links_lead_somewhere(link: str) -> None:
    assert link.startswith("https://") or (ROOT / link).exists()
