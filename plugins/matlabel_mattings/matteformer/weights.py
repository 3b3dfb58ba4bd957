"""Reading a checkpoint: all of the network's parameters and buffers, in their shapes, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from matlabel_bench.errors import UsageError
from matlabel_bench.pretrained import read_weights
from matlabel_mattings.matteformer.network import Network
from matlabel_mattings.matteformer.sizes import SIZES

ORIGIN = "the authors' file is linked from github.com/webtoon/matteformer"


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
