"""Writes the stored maps anew: `python tests/regression/store_maps.py STORE/maps/KEY/files`, from a `tiny` run of cam.

Only needed when the `shapes` data set itself changes; then the baseline changes too, in the same commit.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tomllib
from pathlib import Path

from matlabel_bench import registry
from matlabel_bench.handover import output

HERE = Path(__file__).resolve().parent


def main(files: str) -> None:
    profile = tomllib.loads((HERE / "profile.toml").read_text())
    data = registry.start()[0].make("dataset", profile["run"]["dataset"], **profile["shapes"])
    target = HERE / "maps"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for sample in data.split(profile["run"]["split"]):
        name = hashlib.blake2b(sample.read().tobytes(), digest_size=12).hexdigest()
        shutil.copyfile(output("maps", Path(files), sample.id), target / f"{name}.npz")


if __name__ == "__main__":
    main(sys.argv[1])
