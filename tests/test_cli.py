"""The command line as a user meets it: in processes of its own, by its words and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from calling import environment

Bench = Callable[..., subprocess.CompletedProcess[str]]
COMMANDS = (
    "run", "plan", "label", "list", "show", "doctor", "perf", "report", "compare", "gate", "store", "check", "new",
)  # fmt: skip
# Help and misspellings ---------------------------------------------------------------------------------------------


def test_no_command_prints_the_help(bench: Bench) -> None:
    bare, asked = bench(), bench("--help")
    assert bare.returncode == asked.returncode == 0
    assert bare.stdout == asked.stdout
    for command in COMMANDS:
        assert f"\n    {command} " in bare.stdout
    assert "bench run table1" in bare.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(bench: Bench, command: str) -> None:
    done = bench(command, "--help")
    assert done.returncode == 0
    assert f"usage: bench {command}" in done.stdout
    assert f"example:\n  bench {command}" in done.stdout


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"], ["rnu"]])
def test_help_and_misspellings_import_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom matlabel_bench.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print('HEAVY', [m for m in ('numpy', 'torch', 'pandas', 'PIL', 'scipy', 'pluggy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu"], ["a command of bench", "'rnu'", "did you mean 'run'"]),
        (["run", "--prfile", "x"], ["an option of `bench run`", "'--prfile'", "did you mean '--profile'"]),
        (["run", "--works=2"], ["'--works'", "'--workers'"]),
        (["--quite"], ["an option of `bench`", "'--quite'"]),
        (["run", "--seed", "one"], ["`bench run` understands", "invalid int value: 'one'", "bench run --help"]),
        (["run", "--seed", "1", "1"], ["each seed once", "1 1"]),
        (["run", "--workers", "0"], ["--workers of at least 1", "0"]),
        (["run", "--device", "gpu"], ["'gpu'", "cpu", "cuda"]),
        (["run", "tabel1"], ["the name of a table", "'tabel1'", "did you mean 'table1'"]),
        (["plan", "--profile", "tiney"], ["the name of a profile", "'tiney'"]),
        (["run", "--dataset", "shape"], ["a registered dataset", "'shape'", "did you mean 'shapes'"]),
        (["plan", "--set", "trimap"], ["--set part.field=value", "'trimap'"]),
        (["plan", "--set", "trimpa.fg=0.6"], ["--set to name a part", "'trimpa'", "did you mean 'trimap'"]),
        (["plan", "--set", "trimap.gf=0.6"], ["a field of trimap", "'gf'", "did you mean 'fg'"]),
        (["list", "mattin"], ["a kind of part", "'mattin'", "did you mean 'matting'"]),
        (["show", "kn"], ["the name of a part", "'kn'", "did you mean 'knn'"]),
        (["show", "matting/kn"], ["a registered matting", "'kn'", "did you mean 'knn'"]),
        (["show"], ["the following arguments are required: PART", "bench show --help"]),
        (["show", "knn", "crf"], ["nothing more for `bench show`", "crf"]),
        (["check", "knn", "--set", "neighbors=3"], ["a field of knn", "'neighbors'", "did you mean 'neighbours'"]),
        (["check", "knn", "--set", "neighbours"], ["--set FIELD=VALUE", "'neighbours'"]),
        (["new", "mating", "x"], ["a kind of part", "did you mean 'matting'"]),
        (["store", "gc"], ["the folder of a store", "bench-store (no such folder)"]),
        (["store", "clean"], ["invalid choice: 'clean'", "verify"]),
        (["compare", "a", "b"], ["a cells.csv", "none in a"]),
        (["report", "nothing"], ["none below nothing", "run `bench run` first"]),
        (["label", "photos", "--tags", "t.csv", "--split", "val"], ["an option of `bench label`", "'--split'"]),
        (["label", "photos", "--tags", "t.csv", "--seed", "0", "1"], ["nothing more for `bench label`", "got 1"]),
        (["label", "photos"], ["the following arguments are required: --tags"]),
    ],
)
def test_what_is_misspelt_gets_three_parts_and_near_misses(bench: Bench, words: list[str], said: list[str]) -> None:
    done = bench(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for part in ("expected ", "     got ", "  remedy ", *said):
        assert part in done.stderr


def test_debug_shows_the_traceback(bench: Bench) -> None:
    for words in (["--debug", "show", "kn"], ["show", "kn", "--debug"]):
        done = bench(*words)
        assert "Traceback" in done.stderr
        assert done.returncode != 0


# What is installed -------------------------------------------------------------------------------------------------


def test_list_names_parts_tables_and_profiles(bench: Bench) -> None:
    done = bench("list")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["kind", "name", "origin", "version", "trains", "learns", "from", "summary"]
    knn = next(line for line in lines if line.startswith("matting") and " knn " in line)
    assert "matlabel-bench" in knn
    assert "KNN matting" in knn
    assert any(line.startswith("table1 ") for line in lines)
    everything = json.loads(bench("list", "--json").stdout)
    assert set(everything) == {"parts", "tables", "profiles", "recipes"}
    row = next(p for p in everything["parts"] if p["name"] == "stub-trained")
    assert row["origin"] == "stub-parts 1.0"
    assert row["trains"] is True
    assert row["supervision"] == ["tags"]


def test_list_of_one_kind(bench: Bench) -> None:
    parts = json.loads(bench("list", "refiner", "--json").stdout)
    assert {p["kind"] for p in parts["parts"]} == {"refiner"}
    assert set(parts) == {"parts"}
    assert bench("list", "refiners").stdout == bench("list", "refiner").stdout
    assert [t["name"] for t in json.loads(bench("list", "tables", "--json").stdout)["tables"]][:1] == ["table1"]


def test_show_gives_fields_with_type_default_choices_and_help(bench: Bench) -> None:
    text = bench("show", "knn").stdout
    assert text.startswith("matting knn\n")
    assert "kernel: str = 'binary'   (one of binary, soft)" in text
    assert "paper        Chen, Li, Tang" in text
    (shown,) = json.loads(bench("show", "matting/knn", "--json").stdout)
    fields = {f["name"]: f for f in shown["fields"]}
    assert fields["kernel"]["choices"] == ["binary", "soft"]
    assert fields["neighbours"]["default"] == [20, 10]
    assert shown["file"].endswith("knn.py")


def test_check_tells_kept_from_broken_promises(bench: Bench) -> None:
    good = bench("check", "random_walk")
    assert good.returncode == 0, good.stdout
    assert "promises kept" in good.stdout
    bad = bench("check", "stub-matting", "--set", "moody=yes", "--json")
    assert bad.returncode == 1
    broken = [f for f in json.loads(bad.stdout) if not f["ok"]]
    assert any("expected an odd image" in f["message"] for f in broken)


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m matlabel_bench list --json | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=tmp_path, env=environment()
    )
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
