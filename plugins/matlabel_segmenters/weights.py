"""Weights that a training of DeepLab-v2 begins with: from which files, and how much of the network they covered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from matlabel_bench.errors import UsageError
from matlabel_bench.pretrained import COUNTER, SCRATCH, SOURCES, cover, read_weights
from matlabel_segmenters.network import MultiScale

_BLOCK = re.compile(r"layer([2-5])\.block(\d+)\.(reduce|conv3x3|increase|shortcut)\.(conv|bn)\.(\w+)")
_STEM = re.compile(r"layer1\.conv1\.(conv|bn)\.(\w+)")
_HEAD = re.compile(r"aspp\.c(\d)\.(weight|bias)")
_PLACE = {"reduce": "1", "conv3x3": "2", "increase": "3"}


def ours(key: str) -> str | None:
    """The name in our network of a parameter of kazuto1011/deeplab-pytorch; None for a name of another scheme.

    `base.` before the name may be absent, as in its files of initial weights.
    """
    key = key.removeprefix("base.")
    if found := _STEM.fullmatch(key):
        kind, end = found.groups()
        return f"backbone.stages.stem.{'conv1' if kind == 'conv' else 'bn1'}.{end}"
    if found := _HEAD.fullmatch(key):
        return f"decode_head.branches.{found[1]}.{found[2]}"
    if found := _BLOCK.fullmatch(key):
        layer, block, place, kind, end = found.groups()
        stage = f"layer{int(layer) - 1}"
        kind = ("0" if kind == "conv" else "1") if place == "shortcut" else kind
        name = f"downsample.{kind}" if place == "shortcut" else f"{kind}{_PLACE[place]}"
        return f"backbone.stages.{stage}.{stage}.{int(block) - 1}.{name}.{end}"
    return None


def initialise(network: MultiScale, backbone: str, style: str, source: str) -> str:
    """Fill a network from a file or an address; the sentence for training.json that says how much of it was covered.

    Args:
        source: weights of the backbone by the names of torchvision or mmseg, or of DeepLab-v2 itself by those of
            kazuto1011/deeplab-pytorch (then with its head, if that has as many classes); "none" for a backbone
            that is trained from scratch.

    Raises:
        UsageError: no weights where some are needed; weights of another network, named by its first keys, or of the
            other style.
    """
    pretrained = network.encoder.pretrained
    if not pretrained:
        if source not in ("", SCRATCH):
            raise UsageError(f"no weights for {backbone}, which is trained from scratch", source, "use weights=none")
        return f"{backbone} from scratch"
    if source in ("", SCRATCH):
        got = "none given" if not source else "weights=none, with which its frozen batch normalisation has no sense"
        raise UsageError(f"pretrained weights for {backbone}", got, f"{_HOW[style]}; {SOURCES}")
    state = read_weights(source)
    foreign = any(ours(key) for key in state)
    if backbone == "resnet101" and foreign != (style == "caffe"):
        raise UsageError(f"weights for style={style}", f"{source}, which {_LOOKS[foreign]}", _HOW[_OTHER[style]])
    found = _whole(network, state, source) if foreign else cover(network.encoder.named(), state, source)
    total = sum(v.numel() for k, v in network.model.state_dict().items() if not k.endswith(COUNTER))
    return f"{found:,} of {total:,} values ({100 * found / total:.1f} %) from the file, the rest drawn"


_OTHER = {"caffe": "pytorch", "pytorch": "caffe"}
_LOOKS = {
    True: "has the names of kazuto1011/deeplab-pytorch, whose strides are in 1 x 1 convolutions and whose input is BGR",
    False: "has other names than those of kazuto1011/deeplab-pytorch, such as torchvision's, whose strides are in "
    "3 x 3 convolutions and whose input is RGB",
}
_HOW = {
    "caffe": "set style=caffe for weights converted by kazuto1011/deeplab-pytorch",
    "pytorch": "set style=pytorch for weights of torchvision or mmseg, e.g. weights=torchvision://resnet101",
}


def _whole(network: MultiScale, state: Mapping[str, Any], source: str) -> int:
    """Load a file of the reference's: the backbone, and the head if it fits."""
    own = network.model.state_dict()
    named = {ours(key) or key: value for key, value in state.items()}
    heads = [k for k in own if k.startswith("decode_head.")]
    if all(k in named and named[k].shape == own[k].shape for k in heads):
        return cover(network.model, named, source, "the network", spare=())
    body = {k.removeprefix("backbone."): v for k, v in named.items() if k.startswith("backbone.")}
    rest = {k: v for k, v in named.items() if not k.startswith(("backbone.", "decode_head."))}
    return cover(network.encoder, body | rest, source, "the backbone", spare=("fc.", "base.fc."))
