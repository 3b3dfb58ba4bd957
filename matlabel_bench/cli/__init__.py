"""The command line, `bench`: parsing, dispatch, and every error turned into words and an exit code.

Exit codes: 0 all cells measured (or: nothing wrong), 1 some cell failed or a check found something, 2 usage,
configuration or data, 70 a defect of this program or of a plugin, 130 interrupted. `bench gate` has its own, see its
help. Nothing numeric is imported before a command needs it, so that `bench --help` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from matlabel_bench.cli.failures import INTERRUPTED, explain, stopped
from matlabel_bench.cli.parser import build, parse
from matlabel_bench.workers import pin_threads

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. `--debug` lets tracebacks through."""
    words = list(sys.argv[1:] if argv is None else argv)
    pin_threads()  # before anything numeric is imported, and for every process this one starts
    debug = "--debug" in words
    command = next((w for w in words if not w.startswith("-")), "")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what ends a job on a cluster is as good as Ctrl-C
    try:
        args = parse(build(), words)
        return int(args.command(args))
    except BrokenPipeError:  # `bench list | head`: the reader has enough, and nothing more can be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(stopped(command, _store(words)), file=sys.stderr)
        return INTERRUPTED
    except Exception as err:
        if debug:
            raise
        text, code = explain(err, command)
        print(text, file=sys.stderr)
        return code


def _store(words: Sequence[str]) -> Path:
    from matlabel_bench.cli.options import store_folder

    given = next((words[i + 1] for i, w in enumerate(words[:-1]) if w == "--store"), None)
    return store_folder(given or next((w.partition("=")[2] for w in words if w.startswith("--store=")), None))
