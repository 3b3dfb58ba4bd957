"""MatteFormer (Park et al., CVPR 2022): a transformer that sees image and trimap; the deep matting of the supplement.

Reference: webtoon/matteformer at f09f090 (Apache-2.0), with whose network, padding, trimap channels and fusion of
alphas this was compared under equal random weights (docs/equivalence/matteformer.py). Official checkpoints load as they
are: names and shapes of all 509 entries are the reference's.
Deviations: alphas stay float32 where the reference cuts them to 8 bits; images with a side above `longest` are made
smaller first. A training here begins with ImageNet's Swin-T, as the reference's does, if `encoder` names its file, else
at random; it has no rotation, shear, changes of colour or clipped gradients (see `composites`), and with several
processes each one normalises its own share of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from matlabel_bench.errors import UsageError
from matlabel_bench.fields import key_fields, knob
from matlabel_bench.pretrained import SCRATCH
from matlabel_bench.types import Alpha, Image, Split, Trimap

if TYPE_CHECKING:
    from matlabel_bench.recipe import Recipe

EPOCH = 100
"""Steps between two checkpoints of a training; fewer where the whole training has fewer."""


@dataclass(frozen=True)
class MatteFormer:
    """MatteFormer (Park et al. 2022), from its checkpoint or trained here on composites."""

    weights: str = knob("", "checkpoint, e.g. the authors'; empty or none: trained on composites", key="file")
    composites: str = knob("", "folder to train on: fg/ID.png, alpha/ID.png, bg/*.png or *.jpg", key="folder")
    encoder: str = knob("", "Swin-T trained on ImageNet, to begin a training with; empty: random", key="file")
    size: str = knob("swin_t", "network: the published one, or a small one", choices=("swin_t", "small"))
    steps: int = knob(200_000, "steps of the training (the paper's number)", low=1)
    batch: int = knob(10, "composites a step, over all processes (reference)", low=1)
    crop: int = knob(512, "side of a composite, pixels, a multiple of 32 (reference)", low=64)
    band: int = knob(30, "greatest widening of a composite's unknown area to either side, pixels", low=0)
    lr: float = knob(1e-3, "learning rate of Adam after the warm-up (reference)", low=0)
    momentum: float = knob(0.5, "first beta of Adam (reference)", low=0, high=0.9999)
    beta2: float = knob(0.999, "second beta of Adam (reference)", low=0, high=0.99999)
    warmup: float = knob(0.05, "share of the steps in which the learning rate grows (reference)", low=0, high=0.9)
    longest: int = knob(1600, "images with a longer side are matted at this size; 0: never", low=0, key="open")
    device: str = knob("cpu", "where the network runs: cpu, cuda or cuda:N", key="none")
    readers: int = knob(0, "processes that make composites beside a training", low=0, key="none")
    tensorboard: bool = knob(False, "write TensorBoard events beside the JSON log", key="none")

    version: ClassVar[int] = 1
    supervision: ClassVar[tuple[str, ...]] = ("mattes",)
    trains: ClassVar[bool] = True
    published_in: ClassVar[str] = "Park et al.: MatteFormer. CVPR 2022"

    def __post_init__(self) -> None:
        if self.crop % 32:
            low = max(64, self.crop // 32 * 32)
            raise UsageError("matteformer.crop as a multiple of 32", str(self.crop), f"choose {low} or {low + 32}")

    @property
    def cost(self) -> float:
        """Rough seconds of a core for a 375x500 image of one class."""
        return {"swin_t": 2.0, "small": 0.6}[self.size]

    @property
    def fit_cost(self) -> float:
        """Rough seconds of a core for a composite once through the training: making it, and the network."""
        return 0.0 if self._given() else 0.04 + {"swin_t": 7.0, "small": 0.5}[self.size] * (self.crop / 512) ** 2

    @property
    def leaves(self) -> tuple[float, float]:
        """Bytes that a training leaves, or a checkpoint that was taken over: weights, once."""
        return {"swin_t": 180e6, "small": 1.5e6}[self.size], 0.0

    def note(self) -> str:
        """Which weights these are: the file, by name and digest, or how they were trained."""
        if not self._given():
            start = f", encoder from {Path(self.encoder).name}" if self.encoder not in ("", SCRATCH) else ""
            return f"matteformer: trained here on {self.steps} steps of composites, size {self.size}{start}"
        path = Path(self.weights).expanduser()
        if not path.is_file():  # where results are read elsewhere than they were made
            return f"matteformer: weights of {path.name}"
        digest = str(key_fields(self)["weights"]).removeprefix("sha256:")
        return f"matteformer: weights of {path.name} (sha256 {digest[:8]})"

    def fit(self, train: Split, out: Path, seed: int) -> None:
        """Take over `weights`, or train on `composites`; the split's images are not looked at.

        Raises:
            UsageError: neither is given; weights of another network, or that would run code.
            DataError: a folder of composites that is not what it should be.
        """
        import torch

        from matlabel_mattings.matteformer.losses import Trainee
        from matlabel_mattings.matteformer.sizes import SIZES

        torch.manual_seed(seed)
        network = Trainee(SIZES[self.size])
        about = {"part": "matteformer", "fields": key_fields(self, training=True)}
        if self._given():
            self._take_over(network, out, about | {"seed": seed})
        elif self.composites:
            self._train(network, out, seed, about)
        else:
            raise UsageError(
                "weights or composites for matteformer",
                "neither",
                "give a checkpoint by --set matteformer.weights=FILE (linked from github.com/webtoon/matteformer), or "
                "a folder with fg/, alpha/ and bg/ by --set matteformer.composites=DIR (the data set shapes has one)",
            )

    def _take_over(self, network: Any, out: Path, about: Mapping[str, Any]) -> None:
        """Leave the checkpoint's weights in `out` as a training would."""
        from matlabel_bench import recipe
        from matlabel_mattings.matteformer.weights import fill

        fill(network, self.weights, self.size)
        rank, _ = recipe.ranks()
        if rank == 0:
            out.mkdir(parents=True, exist_ok=True)
            recipe.claim(out, about, rank)
            recipe.save(network, out)

    def _train(self, network: Any, out: Path, seed: int, about: Mapping[str, Any]) -> None:
        from matlabel_bench.train import run
        from matlabel_mattings.matteformer.composites import Composites, look
        from matlabel_mattings.matteformer.weights import begin

        epoch = min(EPOCH, self.steps)
        warm = self.warmup * self.steps / epoch
        folder = look(Path(self.composites).expanduser())
        if self.encoder not in ("", SCRATCH):
            begin(network, self.encoder)
        made = Composites(folder, epoch * self.batch, self.crop, self.band, warm, seed)
        run(network, made, self.recipe(), out, seed, about)

    def recipe(self) -> Recipe:
        """How mmengine is to train it."""
        from matlabel_bench.recipe import Recipe

        warm = {"warmup": int(self.warmup * self.steps), "schedule": "cosine", "optimizer": "adam"}
        return Recipe.of(self, epochs=0, weight_decay=0.0, power=0.0, **warm)

    def open(self, out: Path | None) -> Callable[[Image, Trimap], Alpha]:
        """The live matting, see `inference.live`. Raises UsageError where `fit` has left nothing in `out`."""
        from matlabel_mattings.matteformer.inference import live

        if out is None:
            raise UsageError("the folder of a finished training", "none", "train the part first (fit)")
        return live(out, self.size, self.longest, self.device)

    def _given(self) -> bool:
        return self.weights not in ("", SCRATCH)
