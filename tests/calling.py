"""The environment in which tests call the command line: with the stub parts installed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

STUBS = Path(__file__).resolve().parent / "stubs"


def environment(**extra: str) -> dict[str, str]:
    """The environment of a subprocess that sees the stub parts."""
    path = os.pathsep.join(filter(None, [str(STUBS), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **extra}


def hear_interrupts() -> None:
    """For `preexec_fn`: Ctrl-C reaches the child also where the tests themselves run in the background, which a shell
    makes deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
