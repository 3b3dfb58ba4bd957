"""`shapes`: an embedded synthetic data set, drawn on first use; no download, the same bytes for the same fields.

400 scenes of about 128 x 128 pixels (`scenes.py` says what is in them). On disk: `images/ID.png`, `masks/ID.png`
(palette, 0..5, no 255: the masks are exact), `alphas/ID_CLASS.png` (8-bit coverage of each class present) and
`tags.csv`. Not published anywhere; numbers on it are labelled synthetic.

Beside them, each drawn when first asked for, in folders of their own: the scenes of split `test`, whose masks nobody
has, and what `folders` names.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from matlabel_bench.fields import canonical, key_fields, knob
from matlabel_bench.spec import MaskReader
from matlabel_bench.types import Sample, Split
from matlabel_datasets.listing import choose_split, read_tags
from matlabel_datasets.masks import reader
from matlabel_datasets.once import CACHE, Lazy, cache, once

CLASSES = ("dotty", "bandy", "ringo", "checker", "starry")
SPLITS = {"train": "train", "train_aug": "train", "val": "val", "test": "test"}
COMPOSITES = {"fg": 120, "bg": 60}

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
    # The fingerprint of split `test` holds its images; as a key it would also move train and val.
    test: int = knob(40, "number of scenes without readable masks, split `test`", low=1, high=20000, key="none")

    def class_names(self) -> tuple[str, ...]:
        """Names of the classes 1..5."""
        return CLASSES

    def split_names(self) -> tuple[str, ...]:
        """train, train_aug (the same images: there are no further ones), val, and test, which has no masks."""
        return tuple(SPLITS)

    def split(self, name: str) -> Split:
        """Samples of a split; draws the scenes if this is the first use (some ten seconds)."""
        ids = self._ids(name)
        folder = self.test_folder() if name == "test" else self.folder()
        tags = read_tags(folder / "tags.csv", CLASSES)
        return Split("shapes", name, CLASSES, tuple(Sample(i, folder / "images" / f"{i}.png", tags[i]) for i in ids))

    def masks(self, name: str) -> MaskReader | None:
        """A reader of the exact masks; None for test."""
        return reader(name, self._ids(name), self.mask_files(name), len(CLASSES))

    def mask_files(self, name: str) -> Mapping[str, Path]:
        """Image id -> mask; none for test."""
        ids = self._ids(name)
        return {} if name == "test" else {i: self.folder() / "masks" / f"{i}.png" for i in ids}

    def alpha_files(self, name: str) -> Mapping[tuple[str, int], Path]:
        """(image id, class) -> exact alpha, 8-bit grey: what a matting method should find; none for test."""
        if choose_split(name, SPLITS, "shapes") == "test":
            return {}
        folder = self.folder() / "alphas"
        return {(s.id, c): folder / f"{s.id}_{c}.png" for s in self.split(name) for c in s.tags}

    def folders(self) -> Mapping[str, Path]:
        """Further data by name; each folder is drawn when it is first looked up.

        composites: fg/ID.png (RGB), alpha/ID.png (8-bit grey, the same names and sizes) and bg/ID.png (RGB grounds
            without objects), none of them taken from a scene.
        saliency: ID.png for each scene of train and val, 8-bit grey at its size: a class-agnostic map like that of a
            detector of middling quality. It is made from the scene's own alphas with drawn errors: whoever uses it
            learns from more than tags.
        """
        return Lazy({"composites": self._composites, "saliency": self._saliency})

    def folder(self) -> Path:
        """Where the scenes of train and val lie. Draws them if they do not yet; any number of processes may ask.

        Raises:
            DataError: the folder cannot be written.
        """
        return once(self._place("", key_fields(self)), "the scenes of shapes", self._fill)

    def test_folder(self) -> Path:
        """Where the scenes of test lie; otherwise as `folder`."""
        keys = {"test": self.test, "size": self.size, "seed": self.seed}
        return once(self._place("-test", keys), "the scenes of shapes", self._fill_test)

    def _composites(self) -> Path:
        keys = COMPOSITES | {"size": self.size, "seed": self.seed}
        fill = partial(fill_composites, seed=self.seed, size=self.size)
        return once(self._place("-composites", keys), "the composites of shapes", fill)

    def _saliency(self) -> Path:
        return once(self._place("-saliency", key_fields(self)), "the saliency maps of shapes", self._fill_saliency)

    def _place(self, kind: str, keys: Mapping[str, object]) -> Path:
        digest = hashlib.sha256(canonical(keys).encode()).hexdigest()[:12]
        return (Path(self.root).expanduser() if self.root else cache()) / f"shapes{kind}-v{self.version}-{digest}"

    def _ids(self, name: str) -> list[str]:
        origin = SPLITS[choose_split(name, SPLITS, "shapes")]
        return [f"{origin}_{i:05d}" for i in range(getattr(self, origin))]

    def _fill(self, folder: Path) -> None:
        log.info("drawing %d synthetic scenes into %s, once", self.train + self.val, folder.parent)
        self._draw(folder, ("train", "val"), exact=True)

    def _fill_test(self, folder: Path) -> None:
        self._draw(folder, ("test",), exact=False)

    def _draw(self, folder: Path, splits: tuple[str, ...], exact: bool) -> None:
        """Scenes of some splits and their tags; masks and alphas only where `exact`."""
        for name in ("images", "masks", "alphas") if exact else ("images",):
            (folder / name).mkdir()
        lines = ["image,tags"]
        for split in splits:
            for index, name in enumerate(self._ids(split)):
                lines.append(self._store(folder, name, index, exact))
        (folder / "tags.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _store(self, folder: Path, name: str, index: int, exact: bool) -> str:
        """Draw and write one scene; its line of tags."""
        import PIL.Image

        from matlabel_bench.images import write_label
        from matlabel_datasets.scenes import draw

        scene = draw(self.seed, _stream(name), index, self.size)
        PIL.Image.fromarray(scene.image).save(folder / "images" / f"{name}.png")
        if exact:
            write_label(folder / "masks" / f"{name}.png", scene.label)
            for kind, alpha in scene.alphas.items():
                PIL.Image.fromarray(alpha).save(folder / "alphas" / f"{name}_{kind}.png")
        return f"{name},{' '.join(CLASSES[kind - 1] for kind in scene.alphas)}"

    def _fill_saliency(self, folder: Path) -> None:
        import numpy as np
        import PIL.Image

        from matlabel_datasets.salient import saliency

        log.info("drawing %d saliency maps into %s, once", self.train + self.val, folder.parent)
        for split in ("train", "val"):
            files = self.alpha_files(split)
            for index, sample in enumerate(self.split(split)):
                alphas = []
                for kind in sample.tags:
                    with PIL.Image.open(files[sample.id, kind]) as alpha:
                        alphas.append(np.array(alpha))
                drawn = saliency(self.seed, _stream(sample.id), index, alphas)
                PIL.Image.fromarray(drawn).save(folder / f"{sample.id}.png")


def fill_composites(folder: Path, seed: int, size: int) -> None:
    """Foregrounds, their alphas and backgrounds, as `Shapes.folders` says."""
    import PIL.Image

    from matlabel_datasets.scenes import draw_background, draw_foreground

    log.info("drawing foregrounds and backgrounds into %s, once", folder.parent)
    for name in ("fg", "alpha", "bg"):
        (folder / name).mkdir()
    for index in range(COMPOSITES["fg"]):
        colours, alpha = draw_foreground(seed, index, size)
        PIL.Image.fromarray(colours).save(folder / "fg" / f"{index:05d}.png")
        PIL.Image.fromarray(alpha).save(folder / "alpha" / f"{index:05d}.png")
    for index in range(COMPOSITES["bg"]):
        PIL.Image.fromarray(draw_background(seed, index, size)).save(folder / "bg" / f"{index:05d}.png")


def _stream(name: str) -> int:
    """The stream of random numbers of a scene's split."""
    from matlabel_datasets.scenes import TEST, TRAIN, VAL

    return {"train": TRAIN, "val": VAL, "test": TEST}[name.partition("_")[0]]
