"""`bench new`: what it writes works as it stands, and it overwrites nothing."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from installing import install, run_bench

from matlabel_bench import scaffold
from matlabel_bench.errors import UsageError
from matlabel_bench.spec import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_passes_the_check_as_it_stands(kind: str, tmp_path: Path) -> None:
    made = run_bench("new", kind, "my_part", "--out", "plugins", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "plugins" / "matlabel-my-part"
    assert f"bench check {kind}/my_part" in made.stdout
    install(folder, tmp_path / "site")
    done = run_bench("check", f"{kind}/my_part", cwd=tmp_path, sites=[tmp_path / "site"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kind} my_part (matlabel-my-part 0.1.0)" in done.stdout


def test_its_own_test_passes(tmp_path: Path) -> None:
    folder = scaffold.write("refiner", "my_part", tmp_path)
    install(folder, tmp_path / "site")
    done = run_bench("tests", "-q", module="pytest", cwd=folder, sites=[tmp_path / "site"])
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_names_the_part_and_no_gap_is_left(kind: str, tmp_path: Path) -> None:
    folder = scaffold.write(kind, "soft_edges", tmp_path)
    texts = {
        p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.suffix != ".png" and p.is_file()
    }
    assert set(texts) == {"pyproject.toml", "README.md", "matlabel_soft_edges.py", "tests/test_soft_edges.py"}
    for name, text in texts.items():
        assert "{{" not in text and "{%" not in text, name
        assert "soft_edges" in text, name
        assert not any(line != line.rstrip() for line in text.splitlines()), name
        assert max(map(len, text.splitlines())) <= 120, name
    project = tomllib.loads(texts["pyproject.toml"])
    assert project["project"]["entry-points"]["matlabel_bench"] == {"soft_edges": "matlabel_soft_edges"}
    assert f'registry.add("{kind}", "soft_edges", SoftEdges)' in texts["matlabel_soft_edges.py"]


@pytest.mark.parametrize("kind", ["cam", "matting", "refiner"])
def test_the_table_in_its_readme_is_a_table(kind: str, tmp_path: Path) -> None:
    from matlabel_bench.tables import load_table

    readme = (scaffold.write(kind, "my_part", tmp_path) / "README.md").read_text()
    block = readme[readme.index("    title =") : readme.index("    bench run")]
    (tmp_path / "my_table.toml").write_text("\n".join(line[4:] for line in block.splitlines()))
    table = load_table(str(tmp_path / "my_table.toml"))
    (row,) = table.rows
    used = (row.cam, row.matting, *(r for c in table.columns for r in c.refine))
    assert "my_part" in used


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("mating", "my_part", "did you mean 'matting'"),
        ("matting", "My-Part", "small letters, digits and underscores"),
        ("matting", "class", "small letters, digits and underscores"),
        ("matting", "knn", "'knn', registered by matlabel-bench"),
        ("matting", "mattings", "matlabel_mattings exists"),
    ],
)
def test_a_name_or_kind_that_cannot_be_is_refused(kind: str, name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        scaffold.write(kind, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    module = scaffold.write("matting", "my_part", tmp_path) / "matlabel_my_part.py"
    module.write_text("my work")
    done = run_bench("new", "matting", "my_part", cwd=tmp_path)
    assert done.returncode == 2
    assert "holds something already" in done.stderr
    assert "nothing is overwritten" in done.stderr
    assert module.read_text() == "my work"
