"""Pretrained weights: from a local file or an address, and proof that they are those of the network.

Files are read without running code from them: safetensors, or torch's format with weights_only=True.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matlabel_bench.errors import UsageError, near

SCRATCH = "none"
"""The value of a `weights` field that asks for random weights in so many words."""
COUNTER = "num_batches_tracked"
"""Of a batch normalisation: in some files, in others not, and of no effect."""


def read_weights(source: str) -> dict[str, Any]:
    """Parameters by name.

    Args:
        source: a path (.pth, .pt, .safetensors), a URL, or mmengine's `torchvision://NAME`, `open-mmlab://NAME`.

    Raises:
        UsageError: no such file, unknown name, no network, a file that is not weights.
    """
    if "://" in source:
        return _tensors(_download(address(source), source), source)
    path = Path(source).expanduser()
    if not path.is_file():
        raise UsageError("a file with pretrained weights", f"no file {source}", SOURCES)
    try:
        return _tensors(_read(path), source)
    except UsageError:
        raise
    except Exception as err:  # unpickling a file of unknown origin raises anything
        raise UsageError(
            f"weights in {source}, as safetensors or as tensors alone in torch's format",
            f"{type(err).__name__}: {(str(err) or 'no reason given').splitlines()[0]}",
            "copy it again, or save the tensors alone: torch.save(model.state_dict(), path)",
        ) from err


def cover(
    module: Any, state: Mapping[str, Any], source: str, what: str = "the backbone", spare: Sequence[str] | None = None
) -> int:
    """Load `state` into `module`; every parameter of the module must be there, in its shape.

    Args:
        what: the module's name in errors.
        spare: beginnings of names that the file may have besides; None: it may have any.

    Returns:
        Values that were loaded, statistics of normalisations among them.

    Raises:
        UsageError: names the first mismatches and the likely cause.
    """
    own = {k: v for k, v in module.state_dict().items() if not k.endswith(COUNTER)}
    lacking = [k for k in own if k not in state]
    other = [k for k in own if k in state and tuple(state[k].shape) != tuple(own[k].shape)]
    besides = [k for k in state if k not in own and not k.endswith(COUNTER)]
    alien = [] if spare is None else [k for k in besides if not k.startswith(tuple(spare))]
    if lacking or other or alien:
        shapes = [f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}" for k in other]
        found = len(own) - len(lacking) - len(other)
        cause = "another network, or names its layers otherwise: choose the backbone it belongs to"
        raise UsageError(
            f"weights for all {len(own)} parameters and buffers of {what} in {source}",
            f"{found} that fit; {len(lacking)} missing{_first(lacking)}; {len(other)} of another shape{_first(shapes)}"
            f"; {len(besides)} unknown{_first(alien or besides)}",
            f"the file, which begins with {', '.join(list(state)[:3])}, is of "
            + (cause if found < len(own) // 2 else "a variant of this network: choose the matching file"),
        )
    module.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)
    return sum(int(v.numel()) for v in own.values())


def address(source: str) -> str:
    """The URL behind mmengine's short addresses; other addresses as they are.

    mmengine itself asks torchvision for them, which has no place beside a torch for CPUs; its own list is enough.
    """
    scheme, _, name = source.partition("://")
    lists = {"torchvision": "torchvision_0.12.json", "open-mmlab": "openmmlab.json"}
    if scheme in ("http", "https"):
        return source
    if scheme not in lists:
        raise UsageError("an address of weights", source, near(scheme, [*lists, "https"]))
    import mmengine.hub

    table = json.loads((Path(mmengine.hub.__file__).parent / lists[scheme]).read_text())
    if name not in table:
        raise UsageError(f"a known name behind {scheme}://", repr(name), near(name, table))
    url: str = table[name]
    return url


SOURCES = (
    "give a file by --weights FILE or --set PART.weights=FILE, with network an address such as torchvision://resnet50, "
    f"or weights={SCRATCH} to start from random weights on purpose"
)


def _read(path: Path) -> Any:
    import torch

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _download(url: str, source: str) -> Any:
    import torch

    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", progress=False, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as err:
        raise UsageError(
            f"weights from {source}",
            f"{url}: {(str(err) or type(err).__name__).splitlines()[0]}",
            f"check the network; or download the file elsewhere and {SOURCES}",
        ) from err


def _tensors(state: Any, source: str) -> dict[str, Any]:
    """The parameters in what was read: the dict itself, or the one under `state_dict` or `model`."""
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    found = {k: v for k, v in state.items() if hasattr(v, "shape")} if isinstance(state, Mapping) else {}
    if not found:
        raise UsageError(f"parameters by name in {source}", type(state).__name__, "save a state_dict into it")
    return {k.removeprefix("module.").removeprefix("backbone."): v for k, v in found.items()}


def _first(names: list[str]) -> str:
    return f" (first: {'; '.join(names[:3])})" if names else ""
