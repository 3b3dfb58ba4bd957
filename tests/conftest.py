"""Fixtures shared by all tests: stub parts, the command line as a user calls it, real data where there is any."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from calling import STUBS, environment

HERE = Path(__file__).resolve().parent


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registers the stub parts in this process for one test."""
    from matlabel_bench import registry

    monkeypatch.syspath_prepend(str(STUBS))
    registry.start.cache_clear()
    yield
    registry.start.cache_clear()


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`bench(*words, **environment)` in a folder of its own, with the stub parts installed."""

    def call(*words: object, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "matlabel_bench", *map(str, words)],
            cwd=tmp_path,
            env=environment(**extra),
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    return call


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and weights: $MATLABEL_BENCH_DATA, or `shared/data` beside the checkout."""
    given = os.environ.get("MATLABEL_BENCH_DATA")
    folder = Path(given) if given else HERE.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent (set MATLABEL_BENCH_DATA)")
    return folder
