"""Reading files of weights: a checkpoint of the whole network, or a Swin transformer to begin the encoder with.

A checkpoint has all of the network's parameters and buffers, in their shapes, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from matlabel_bench.errors import UsageError
from matlabel_bench.pretrained import read_weights
from matlabel_mattings.matteformer.network import Network
from matlabel_mattings.matteformer.sizes import SIZES

ORIGIN = "the authors' file is linked from github.com/webtoon/matteformer"
OFFSETS = 13 * 13
"""Between two patches of a window of 7 x 7."""


def fill(network: Network, source: str, size: str) -> None:
    """Load a checkpoint into a network of that size, strictly; numbers of any type become the network's.

    Accepted are safetensors, and torch's format with nothing but tensors and plain values: parameters by name, or a
    dict with them under `state_dict`; a prefix `module.` is taken off.

    Raises:
        UsageError: no such file; a file that would run code; names or shapes that differ (the first are named,
            with the likely cause).
    """
    if not Path(source).expanduser().is_file():
        remedy = f"give the path of a checkpoint ({ORIGIN}), or train on composites"
        raise UsageError("a file with weights of MatteFormer", f"no file {source}", remedy)
    state = read_weights(source)
    own = network.state_dict()
    missing, alien = [k for k in own if k not in state], [k for k in state if k not in own]
    other = [k for k in own if k in state and state[k].shape != own[k].shape]
    if missing or alien or other:
        shapes = [f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}" for k in other]
        found = len(own) - len(missing) - len(other)
        raise UsageError(
            f"all {len(own)} parameters and buffers of MatteFormer {size} in {source}, and no others",
            f"{found} that fit; {_first(missing, 'missing')}; {_first(alien, 'unexpected')}; "
            f"{_first(shapes, 'of another shape')}",
            _cause(state, missing, alien, size),
        )
    network.load_state_dict(dict(state))


def begin(network: Network, source: str) -> None:
    """Fill the encoder with an ImageNet Swin transformer's weights, in the names of microsoft/Swin-Transformer.

    What image classification does not have stays random (Xavier, as in the reference): the trimap's channels of the
    first convolution, and the prior tokens' rows of the bias tables.

    Raises:
        UsageError: no such file, a file that would run code, or a network that does not fit the encoder.
    """
    state, ready, wrong = read_weights(source), {}, []
    for name, own in network.encoder.state_dict().items():
        if not name.startswith(("patch_embed.", "layers.")) or name.endswith("relative_position_index"):
            continue
        value = state.get(name)
        ready[name] = None if value is None else _grown(name, value, own)
        if ready[name] is None:
            came = "missing" if value is None else f"{tuple(value.shape)} instead of {tuple(own.shape)}"
            wrong.append(f"{name} {came}")
    if wrong:
        raise UsageError(
            f"a Swin transformer for the {len(ready)} weights of the encoder's patches and layers in {source}",
            f"{len(ready) - len(wrong)} that fit; {_first(wrong, 'do not')}",
            "set size=swin_t, and give swin_tiny_patch4_window7_224.pth (github.com/microsoft/Swin-Transformer)",
        )
    network.encoder.load_state_dict(ready, strict=False)


def _grown(name: str, value: torch.Tensor, own: torch.Tensor) -> torch.Tensor | None:
    """A weight as it is, or with random numbers for what it lacks; None where it does not fit."""
    if name == "patch_embed.proj.weight":
        axis, there = 1, 3
    elif name.endswith("relative_position_bias_table"):
        axis, there = 0, OFFSETS
    else:
        return value if value.shape == own.shape else None
    grown = nn.init.xavier_normal_(torch.empty_like(own))
    part = grown.narrow(axis, 0, there)
    return None if part.shape != value.shape else grown.index_copy_(axis, torch.arange(there), value.to(grown))


def _cause(state: Mapping[str, Any], missing: list[str], alien: list[str], size: str) -> str:
    """What the file probably is, and what to do."""
    for other in SIZES:
        if other != size and _fits(state, other):
            return f"the file is of size {other}: set size={other}"
    for key in alien:
        name = next((name for name in missing if key.endswith("." + name)), "")
        if name:
            prefix = key.removesuffix(name)
            return f"every name begins with {prefix!r}, as Lightning or a wrapper writes them: save them without it"
    if missing and not alien and all(k.startswith("decoder.") for k in missing):
        return f"the file has the encoder alone: give the whole network ({ORIGIN})"
    if any(k.startswith(("layers.", "patch_embed.")) for k in alien):
        return f"the file is a Swin transformer, from which MatteFormer's training begins: give the result ({ORIGIN})"
    if any(k.endswith(".module.weight") for k in alien):
        return "the spectral norms were folded into the weights: give the file as its training left it"
    return f"the file, which begins with {', '.join(list(state)[:3])}, is of another network: {ORIGIN}"


def _fits(state: Mapping[str, Any], size: str) -> bool:
    with torch.device("meta"):
        own = Network(SIZES[size]).state_dict()
    return own.keys() == state.keys() and all(state[k].shape == v.shape for k, v in own.items())


def _first(names: list[str], what: str) -> str:
    return f"{len(names)} {what}" + (f" (first: {'; '.join(names[:3])})" if names else "")
