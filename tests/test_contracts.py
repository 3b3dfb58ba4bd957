"""Every promise of a stage's output, kept and broken."""

from __future__ import annotations

import numpy as np
import pytest

from matlabel_bench import contracts
from matlabel_bench.errors import ContractError


def cams(k: int = 2) -> np.ndarray:
    maps = np.zeros((k, 3, 4), np.float32)
    maps[:, 1, 1] = 1
    return maps


def refused(said: str, check: object, *args: object) -> None:
    with pytest.raises(ContractError) as err:
        check(*args)  # type: ignore[operator]
    assert said in str(err.value)


def test_cams() -> None:
    good = cams()
    assert contracts.check_cams(good, 2, "x") is good
    assert contracts.check_cams(np.zeros((2, 1, 1), np.float32), 2, "x").shape == (2, 1, 1), "all zero is allowed"
    assert len(contracts.check_cams(np.zeros((0, 3, 4), np.float32), 0, "x")) == 0
    assert contracts.check_cams(good * np.float32(0.9996), 2, "x").max() < 1, "within float16's step"
    refused("x to return maps as a NumPy array\n     got list", contracts.check_cams, [1], 1, "x")
    refused("float32, 3 x any x any\n     got float32, 2 x 3 x 4", contracts.check_cams, good, 3, "x")
    refused("got float64", contracts.check_cams, good.astype(float), 2, "x")
    refused("maps of x in [0.0, 1.0]\n     got [0, 2]", contracts.check_cams, good * 2, 2, "x")
    refused("got [-1, 0]", contracts.check_cams, good - 1, 2, "x")
    refused("got [nan, nan]", contracts.check_cams, good * np.float32("nan"), 2, "x")
    half = good.copy()
    half[1] /= 2
    refused("channel 1 with maximum 0.5", contracts.check_cams, half, 2, "x")


def test_trimap() -> None:
    good = np.array([[[0, 128, 255]]], np.uint8)
    assert contracts.check_trimap(good, (1, 1, 3), "x") is good
    refused("values 0, 128, 255\n     got [64, 127]", contracts.check_trimap, good // 2, (1, 1, 3), "x")
    refused("uint8, 1 x 3 x 1", contracts.check_trimap, good, (1, 3, 1), "x")


def test_alpha() -> None:
    trimap = np.array([[[0, 128, 255]]], np.uint8)
    contracts.check_alpha(np.array([[[0.01, 0.5, 0.99]]], np.float32), trimap, "x")
    contracts.check_alpha(np.zeros((0, 1, 3), np.float32), trimap[:0], "x")
    for values in ([0.02, 0.5, 1], [0, 0.5, 0.98]):
        refused("off by 0.02", contracts.check_alpha, np.array([[values]], np.float32), trimap, "x")
    refused("alpha of x in [0.0, 1.0]", contracts.check_alpha, np.array([[[0, 1.1, 1]]], np.float32), trimap, "x")


def test_scores() -> None:
    good = np.full((2, 1, 2), 0.5, np.float32)
    assert contracts.check_scores(good, 2, (1, 2), "x") is good
    refused("off by 0.2", contracts.check_scores, good * np.float32(0.8), 2, (1, 2), "x")
    refused("float32, 3 x 1 x 2", contracts.check_scores, good, 3, (1, 2), "x")


def test_label() -> None:
    good = np.array([[0, 4, 255]], np.uint8)
    assert contracts.check_label(good, (1, 3), {4}, "x") is good
    refused("the image's tags [7] and 255\n     got [4]", contracts.check_label, good, (1, 3), {7}, "x")
    refused("uint8, 3 x 1", contracts.check_label, good, (3, 1), {4}, "x")
