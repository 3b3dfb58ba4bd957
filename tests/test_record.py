"""The record: complete, cheap, and silent about persons and machines."""

from __future__ import annotations

import getpass
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from matlabel_bench import record


def test_environment_says_what_a_reader_needs() -> None:
    env = record.environment()
    assert set(env) == {"matlabel_bench", "python", "platform", "hardware", "threads", "versions", "plugins", "source"}
    assert {"torch", "numpy", "scipy", "pymatting", "mmengine", "mmseg", "mmcv", "pydensecrf", "pandas"} <= set(
        env["versions"]
    )
    assert env["hardware"]["cores"] >= 1
    assert env["hardware"]["cpu"]
    assert set(env["hardware"]["vectors"]) <= set(record.VECTORS)
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"} <= set(env["threads"])
    assert json.loads(json.dumps(env)) == env


@pytest.mark.parametrize(
    ("text", "cpu", "vectors"),
    [
        (
            "model name\t: Some X\nflags\t\t: fpu avx2 avx512f avx2x\n\nmodel name\t: Other\n",
            "Some X",
            ["avx2", "avx512f"],
        ),
        ("processor\t: 0\nFeatures\t: fp asimd sve\n\nHardware\t: Board\n", "Board", ["asimd", "sve"]),
    ],
)
def test_processors_of_one_name_differ_by_their_vectors(
    text: str, cpu: str, vectors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, **how: text)
    assert record._processor() == (cpu, vectors)


def test_environment_names_no_person_and_no_machine() -> None:
    text = json.dumps(record.environment())
    assert str(Path.home()) + "/" not in text
    for name in (getpass.getuser(), socket.gethostname()):
        assert f'"{name}"' not in text
        assert f"/{name}/" not in text


def test_environment_imports_nothing_heavy() -> None:
    code = (
        "import sys; from matlabel_bench import record; record.environment(); "
        "print([m for m in ('torch', 'numpy', 'pandas', 'cv2', 'mmcv', 'mmengine') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_mmcv_has_a_version_although_the_fork_hides_it() -> None:
    assert record.versions()["mmcv"].startswith("2.")


def test_source_says_commit_and_whether_it_is_dirty(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words],
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    assert record.source(tmp_path) is None
    git("init", "-q")
    assert record.source(tmp_path) is None, "a repository without a commit says nothing"
    (tmp_path / "a.txt").write_text("one")
    git("add", "a.txt")
    git("commit", "-qm", "first")
    assert record.source(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "untracked.txt").write_text("outputs are no change of the source")
    assert record.source(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "a.txt").write_text("two")
    assert record.source(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": True}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("/home/ann/voc/a.png", "…/a.png"),
        ("/home/ann", "~"),
        ("/Users/ann", "~"),
        (r"C:\Users\ann\voc\a.png", "…/a.png"),
        ("~/voc/a.png", "…/a.png"),
        ("cannot read /data/x/y.jpg: truncated", "cannot read …/y.jpg: truncated"),
        ("https://example.org/a/b.pth", "https://example.org/a/b.pth"),
        ("configs/tables/table1.toml", "configs/tables/table1.toml"),
        ("5/8 of 1/2", "5/8 of 1/2"),
        (Path("/data/voc/a.png"), "…/a.png"),
        (0.75, 0.75),
        (None, None),
    ],
)
def test_scrub(value: object, kept: object) -> None:
    assert record.scrub(value) == kept


def test_scrub_reaches_into_lists_and_keeps_what_lies_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    value = {"a": [str(tmp_path / "store" / "x"), str(tmp_path)], "b": ({"c": str(Path.home() / "w.pth")},)}
    assert record.scrub(value) == {"a": ["store/x", "."], "b": [{"c": "…/w.pth"}]}
