"""Files that appear whole or not at all, and a second name for one that is never changed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from matlabel_bench.files import share, write_bytes, write_text


def test_a_file_appears_whole_in_a_folder_that_is_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a/b/c.txt", "ü\n")
    assert (tmp_path / "a/b/c.txt").read_bytes() == b"\xc3\xbc\n"
    assert [p.name for p in (tmp_path / "a/b").iterdir()] == ["c.txt"], "nothing temporary is left"


def test_a_failed_write_leaves_what_was_there_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.txt"
    write_text(path, "before")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*c\.txt'"):
        write_bytes(path, b"after")
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["c.txt"]


def test_a_shared_file_is_one_file_under_two_names(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"x")
    (tmp_path / f".b.{os.getpid()}.part").write_bytes(b"of an interrupted run")
    share(source, target)
    assert target.samefile(source)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    write_bytes(target, b"y")
    assert source.read_bytes() == b"x", "a file is replaced, never changed"


def test_where_a_disk_knows_no_second_names_a_file_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EPERM, "not here")

    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"x")
    monkeypatch.setattr(os, "link", refuse)
    share(source, target)
    assert target.read_bytes() == b"x"
    assert not target.samefile(source)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
