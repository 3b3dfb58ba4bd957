"""`shapes`: an embedded synthetic data set, drawn on first use; no download, the same bytes for the same fields.

400 scenes of about 128 x 128 pixels (`scenes.py` says what is in them). On disk: `images/ID.png`, `masks/ID.png`
(palette, 0..5, no 255: the masks are exact), `alphas/ID_CLASS.png` (8-bit coverage of each class present) and
`tags.csv`. Not published anywhere; numbers on it are labelled synthetic.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matlabel_bench.errors import DataError
from matlabel_bench.fields import canonical, key_fields, knob
from matlabel_bench.spec import MaskReader
from matlabel_bench.types import Sample, Split
from matlabel_datasets.listing import choose_split, read_tags
from matlabel_datasets.masks import reader

CACHE = "MATLABEL_BENCH_CACHE"
CLASSES = ("dotty", "bandy", "ringo", "checker", "starry")
SPLITS = {"train": "train", "train_aug": "train", "val": "val"}

log = logging.getLogger("matlabel_bench")


@dataclass(frozen=True)
class Shapes:
    """Synthetic scenes of five classes of two-part objects, with exact masks and alphas (embedded)."""

    version: ClassVar[int] = 1
    synthetic: ClassVar[bool] = True

    root: str = knob("", f"folder to keep the scenes in; default ${CACHE}, or the user's cache folder", key="none")
    train: int = knob(300, "number of training scenes", low=1, high=20000)
    val: int = knob(100, "number of validation scenes", low=1, high=20000)
    size: int = knob(128, "typical side of a scene in pixels; sides vary by an eighth", low=64, high=512)
    seed: int = knob(0, "seed of all scenes", low=0)

    def class_names(self) -> tuple[str, ...]:
        """Names of the classes 1..5."""
        return CLASSES

    def split_names(self) -> tuple[str, ...]:
        """train, train_aug (the same images: there are no further ones) and val."""
        return tuple(SPLITS)

    def split(self, name: str) -> Split:
        """Samples of a split; draws the scenes if this is the first use (some ten seconds)."""
        ids = self._ids(name)
        folder = self.folder()
        tags = read_tags(folder / "tags.csv", CLASSES)
        return Split("shapes", name, CLASSES, tuple(Sample(i, folder / "images" / f"{i}.png", tags[i]) for i in ids))

    def masks(self, name: str) -> MaskReader | None:
        """A reader of the exact masks."""
        return reader(name, self._ids(name), self.mask_files(name), len(CLASSES))

    def mask_files(self, name: str) -> Mapping[str, Path]:
        """Image id -> mask."""
        folder = self.folder() / "masks"
        return {i: folder / f"{i}.png" for i in self._ids(name)}

    def alpha_files(self, name: str) -> Mapping[tuple[str, int], Path]:
        """(image id, class) -> exact alpha, 8-bit grey: what a matting method should find."""
        folder = self.folder() / "alphas"
        return {(s.id, c): folder / f"{s.id}_{c}.png" for s in self.split(name) for c in s.tags}

    def folder(self) -> Path:
        """Where the scenes lie. Draws them if they do not yet; any number of processes may ask at once.

        Raises:
            DataError: the folder cannot be written.
        """
        digest = hashlib.sha256(canonical(key_fields(self)).encode()).hexdigest()[:12]
        final = (Path(self.root).expanduser() if self.root else cache()) / f"shapes-v{self.version}-{digest}"
        if not final.is_dir():
            try:
                self._fill(final)
            except OSError as err:
                raise DataError(
                    f"to write the scenes of shapes to {final}",
                    err.strerror or str(err),
                    f"free space, or choose another folder with --data-root or {CACHE}",
                ) from err
        return final

    def _ids(self, name: str) -> list[str]:
        origin = SPLITS[choose_split(name, SPLITS, "shapes")]
        return [f"{origin}_{i:05d}" for i in range(self.train if origin == "train" else self.val)]

    def _fill(self, final: Path) -> None:
        """Draw into a temporary folder and rename it: `final` exists only when it is complete."""
        from filelock import FileLock

        final.parent.mkdir(parents=True, exist_ok=True)
        part = final.with_name(final.name + ".part")
        with FileLock(final.with_name(final.name + ".lock")):
            if final.is_dir():
                return
            log.info("drawing %d synthetic scenes into %s, once", self.train + self.val, final)
            shutil.rmtree(part, ignore_errors=True)  # what an interrupted call left
            for name in ("images", "masks", "alphas"):
                (part / name).mkdir(parents=True)
            lines = ["image,tags"]
            for number, split in enumerate(("train", "val")):
                for index, name in enumerate(self._ids(split)):
                    lines.append(self._store(part, name, number, index))
            (part / "tags.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
            part.rename(final)

    def _store(self, folder: Path, name: str, split: int, index: int) -> str:
        """Draw and write one scene; its line of tags."""
        import PIL.Image

        from matlabel_bench.images import write_label
        from matlabel_datasets.scenes import draw

        scene = draw(self.seed, split, index, self.size)
        PIL.Image.fromarray(scene.image).save(folder / "images" / f"{name}.png")
        write_label(folder / "masks" / f"{name}.png", scene.label)
        for kind, alpha in scene.alphas.items():
            PIL.Image.fromarray(alpha).save(folder / "alphas" / f"{name}_{kind}.png")
        return f"{name},{' '.join(CLASSES[kind - 1] for kind in scene.alphas)}"


def cache() -> Path:
    """$MATLABEL_BENCH_CACHE, else matlabel_bench in $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get(CACHE):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matlabel_bench"
