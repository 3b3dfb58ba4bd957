"""Pretrained weights: what is read, what is refused, and in which words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from matlabel_bench import pretrained
from matlabel_bench.errors import UsageError
from matlabel_bench.fields import key_fields, knob
from matlabel_bench.pretrained import address, cover, read_weights


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s}])
def test_torch_files_with_and_without_a_wrapping(tmp_path: Path, wrap: object) -> None:
    torch.save(wrap(network().state_dict()), tmp_path / "a.pth")  # type: ignore[operator]
    assert list(read_weights(str(tmp_path / "a.pth"))) == list(network().state_dict())


def test_safetensors_and_prefixes(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({f"backbone.{k}": v for k, v in network().state_dict().items()}, tmp_path / "a.safetensors")
    other = network()
    cover(other, read_weights(str(tmp_path / "a.safetensors")), "a")
    assert set(read_weights(str(tmp_path / "a.safetensors"))) == set(other.state_dict())


def test_a_missing_file_names_the_ways_to_weights(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)no file .*nowhere\.pth.*--weights FILE.*torchvision://resnet50.*none"):
        read_weights(str(tmp_path / "nowhere.pth"))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": network()}, tmp_path / "a.pth")  # a whole module: pickled classes
    with pytest.raises(UsageError, match=r"(?s)tensors alone.*UnpicklingError.*state_dict"):
        read_weights(str(tmp_path / "a.pth"))


def test_a_file_that_is_no_weights(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"<html>not found</html>")
    with pytest.raises(UsageError, match=r"(?s)weights in .*a\.pth.*copy it again"):
        read_weights(str(tmp_path / "a.pth"))
    torch.save([1, 2], tmp_path / "b.pth")
    with pytest.raises(UsageError, match=r"(?s)parameters by name in .*b\.pth.*list"):
        read_weights(str(tmp_path / "b.pth"))


def test_cover_names_the_first_mismatches() -> None:
    state = network().state_dict()
    alien = {f"features.{k}": v for k, v in state.items()}
    with pytest.raises(
        UsageError, match=r"(?s)0 that fit; 6 missing \(first: 0\.weight; 0\.bias; 1\.weight\).*another netw"
    ):
        cover(network(), alien, "x.pth")
    variant = state | {"0.weight": torch.zeros(4, 5, 1, 1)}
    with pytest.raises(
        UsageError, match=r"(?s)5 that fit.*0\.weight \(4, 5, 1, 1\) instead of \(4, 3, 1, 1\).*a variant"
    ):
        cover(network(), variant, "x.pth")


def test_cover_ignores_what_the_file_has_besides() -> None:
    other, state = network(), network().state_dict()
    cover(other, state | {"fc.weight": torch.zeros(3)}, "x.pth")
    assert torch.equal(other.state_dict()["0.weight"], state["0.weight"])


def test_addresses() -> None:
    assert address("torchvision://resnet50").startswith("https://download.pytorch.org/models/resnet50-")
    assert address("https://example.org/a.pth") == "https://example.org/a.pth"
    with pytest.raises(UsageError, match=r"(?s)torchvision://.*resnet5.*did you mean 'resnet50'"):
        address("torchvision://resnet5")
    with pytest.raises(UsageError, match=r"(?s)an address of weights.*torchvison://.*did you mean 'torchvision'"):
        address("torchvison://resnet50")


def test_no_network_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **keywords: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(UsageError, match=r"(?s)torchvision://resnet50.*Name or service not known.*download the file"):
        read_weights("torchvision://resnet50")


def test_a_download_is_read_without_running_code(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def fetch(url: str, **keywords: object) -> dict[str, torch.Tensor]:
        seen.update(keywords, url=url)
        return dict(network().state_dict())

    monkeypatch.setattr(pretrained, "address", lambda source: "https://x/y.pth")
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    assert "0.weight" in read_weights("torchvision://y")
    assert seen["weights_only"] is True and seen["url"] == "https://x/y.pth"


@dataclass(frozen=True)
class Part:
    weights: str = knob("", "a file", key="file")


def test_cache_keys_of_weights(tmp_path: Path) -> None:
    """A file enters by its content; an address and the word none as they are."""
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"x")
    a, b = (key_fields(Part(str(tmp_path / n)))["weights"] for n in "ab")
    assert a == b and a.startswith("sha256:")
    for word in ("torchvision://resnet50", "none", ""):
        assert key_fields(Part(word)) == {"weights": word}
    with pytest.raises(UsageError, match=r"(?s)weights to name a readable file.*nowhere"):
        key_fields(Part(str(tmp_path / "nowhere")))
