"""MatteFormer's checkpoints: what is taken over, and how everything else is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from matlabel_bench import kit, registry
from matlabel_bench.errors import UsageError
from matlabel_bench.recipe import WEIGHTS, load
from matlabel_bench.types import Split
from matlabel_mattings.matteformer import MatteFormer
from matlabel_mattings.matteformer.network import Network
from matlabel_mattings.matteformer.sizes import SIZES
from matlabel_mattings.matteformer.weights import begin, fill

EMPTY = Split("none", "train", ("thing",), ())


def network(size: str = "small") -> Network:
    torch.manual_seed(0)
    return Network(SIZES[size])


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return dict(network().state_dict())


def refused(tmp_path: Path, content: Any) -> UsageError:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(UsageError) as caught:
        fill(network(), str(tmp_path / "file.pth"), "small")
    return caught.value


def test_the_officials_form_is_taken_over_with_its_float_buffers(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    """A dict with `state_dict`, names behind `module.`, and the optimizer's state beside it."""
    saved = {f"module.{k}": v.double() + (0.5 if k == "decoder.bn1.bias" else 0) for k, v in state.items()}
    file = tmp_path / "best_model.pth"
    torch.save({"iter": 7, "loss": {"mse": 0.1}, "state_dict": saved, "opt_state_dict": {"state": {}}}, file)
    part = MatteFormer(weights=str(file), size="small")
    part.fit(EMPTY, tmp_path / "out", 3)
    got = network()
    load(got, tmp_path / "out")
    for name, value in got.state_dict().items():
        assert torch.equal(value, state[name] + (0.5 if name == "decoder.bn1.bias" else 0)), name
        assert value.dtype == state[name].dtype
    told = json.loads((tmp_path / "out" / "training.json").read_text())
    assert told["part"] == "matteformer" and told["seed"] == 3
    assert told["fields"]["weights"].startswith("sha256:")
    before = (tmp_path / "out" / WEIGHTS).read_bytes()
    part.fit(EMPTY, tmp_path / "out", 3)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == before
    assert part.note() == f"matteformer: weights of best_model.pth (sha256 {told['fields']['weights'][7:15]})"


def test_what_a_training_here_leaves_is_a_checkpoint(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    save_file({k: v + 1 for k, v in state.items()}, tmp_path / "weights.safetensors")
    got = network()
    fill(got, str(tmp_path / "weights.safetensors"), "small")
    assert torch.equal(got.state_dict()["decoder.bn1.weight"], state["decoder.bn1.weight"] + 1)


def test_missing_unexpected_and_misshapen_are_named(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    wrong = {k: v for k, v in state.items() if k != "decoder.bn1.bias"}
    wrong |= {"decoder.extra": torch.zeros(1), "encoder.norm0.weight": torch.zeros(5)}
    error = refused(tmp_path, wrong)
    assert error.expected.startswith(f"all {len(state)} parameters and buffers of MatteFormer small in ")
    assert error.got == (
        f"{len(state) - 2} that fit; 1 missing (first: decoder.bn1.bias); 1 unexpected (first: decoder.extra); "
        f"1 of another shape (first: encoder.norm0.weight (5,) instead of ({SIZES['small'].embed},))"
    )


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda s: {f"model.generator.{k}": v for k, v in s.items()}, "begins with 'model.generator.', as Lightning"),
        (lambda s: {k: v for k, v in s.items() if k.startswith("encoder.")}, "has the encoder alone"),
        (
            lambda s: {k.removeprefix("encoder."): v for k, v in s.items() if "layers" in k or "patch" in k},
            "is a Swin transformer, from which",
        ),
        (
            lambda s: {k.replace("weight_bar", "weight"): v for k, v in s.items() if not k.endswith(("_u", "_v"))},
            "the spectral norms were folded",
        ),
        (lambda s: {"conv1.weight": torch.zeros(3)}, r"begins with conv1\.weight, is of another network"),
    ],
)
def test_likely_causes(tmp_path: Path, state: dict[str, torch.Tensor], change: Any, cause: str) -> None:
    error = refused(tmp_path, {"state_dict": change(state)})
    with pytest.raises(UsageError, match=cause):
        raise error


def test_another_size_is_recognised(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = Network(SIZES["swin_t"]).state_dict()
    error = refused(tmp_path, {k: torch.zeros((), dtype=v.dtype).expand(v.shape) for k, v in shapes.items()})
    assert error.remedy == "the file is of size swin_t: set size=swin_t"


class Harm:
    """Unpickled carelessly, this would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    error = refused(tmp_path, {"state_dict": {"decoder.bn1.bias": torch.zeros(8)}, "more": Harm(tmp_path / "harm")})
    assert "as safetensors or as tensors alone" in error.expected
    assert "save the tensors alone" in error.remedy
    assert not (tmp_path / "harm").exists()


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"(?s)a file with weights of MatteFormer.*no file .*gone\.pth.*webtoon/matteformer"
    ):
        fill(network(), str(tmp_path / "gone.pth"), "small")
    assert MatteFormer(weights=str(tmp_path / "gone.pth")).note() == "matteformer: weights of gone.pth"


def swin(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a file of microsoft/Swin-Transformer has: three channels, 169 rows, a classifier; here all fives."""
    out = {"head.weight": torch.zeros(2, 2), "layers.0.blocks.1.attn_mask": torch.zeros(4, 49, 49)}
    for name, value in state.items():
        short = name.removeprefix("encoder.")
        if name == "encoder.patch_embed.proj.weight":
            value = value[:, :3]
        elif name.endswith("bias_table"):
            value = value[:169]
        elif name.endswith("position_index"):
            value = value[:, :49]
        if short.startswith(("patch_embed.", "layers.")):
            out[short] = torch.full_like(value, 5)
    return out


def test_a_training_may_begin_with_a_swin_transformer(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save({"model": swin(state)}, tmp_path / "swin.pth")
    got = network()
    begin(got, str(tmp_path / "swin.pth"))
    after = got.state_dict()
    assert (after["encoder.layers.1.blocks.0.mlp.fc1.weight"] == 5).all()
    assert (after["encoder.layers.2.downsample.reduction.weight"] == 5).all()
    first = after["encoder.patch_embed.proj.weight"]
    assert (first[:, :3] == 5).all() and 0 < first[:, 3:].std() < 0.2
    table = after["encoder.layers.0.blocks.1.attn.relative_position_bias_table"]
    assert table.shape[0] == 175 and (table[:169] == 5).all() and table[169:].abs().max() < 1
    for kept in ("attn.relative_position_index", "attn.relative_position_bias_table"):
        assert after[f"encoder.layers.0.blocks.1.{kept}"].dtype == state[f"encoder.layers.0.blocks.1.{kept}"].dtype
    index = "encoder.layers.0.blocks.1.attn.relative_position_index"
    for name in (index, "encoder.norm0.weight", "encoder.shortcut.0.0.module.weight_bar", "decoder.bn1.weight"):
        assert torch.equal(after[name], state[name]), name
    assert "encoder from swin.pth" in MatteFormer(encoder=str(tmp_path / "swin.pth")).note()


def test_another_transformer_does_not_fit_the_encoder(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    given = swin(state)
    del given["patch_embed.proj.bias"]
    given["layers.0.blocks.0.attn.relative_position_bias_table"] = torch.zeros(529, 1)
    torch.save(given, tmp_path / "swin.pth")
    pattern = (
        r"(?s)2 do not \(first: patch_embed\.proj\.bias missing; "
        r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table \(529, 1\) instead of \(172, 1\)\).*size=swin_t"
    )
    with pytest.raises(UsageError, match=pattern):
        begin(network(), str(tmp_path / "swin.pth"))


@pytest.mark.parametrize("weights", ["", "none"])
def test_neither_weights_nor_composites(tmp_path: Path, weights: str) -> None:
    pattern = r"(?s)weights or composites.*neither.*matteformer\.weights=FILE.*matteformer\.composites=DIR"
    with pytest.raises(UsageError, match=pattern):
        MatteFormer(weights=weights, size="small").fit(EMPTY, tmp_path, 0)


def test_opened_before_it_was_fitted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="train the part first"):
        MatteFormer().open(None)
    with pytest.raises(UsageError, match=r"(?s)weights of a finished training.*no such file.*train the part first"):
        MatteFormer(size="small").open(tmp_path)


def test_it_is_registered_and_says_what_it_learned_from() -> None:
    entry = registry.start()[0].get("matting", "matteformer")
    assert entry.cls is MatteFormer and entry.cls.trains and entry.cls.supervision == ("mattes",)
    assert kit.cheap(MatteFormer)["weights"] == "none"


def test_a_crop_that_cannot_be_halved_five_times() -> None:
    with pytest.raises(UsageError, match=r"(?s)multiple of 32.*100.*choose 96 or 128"):
        MatteFormer(crop=100)
