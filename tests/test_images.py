"""Pictures of every usable mode come in as RGB, bad files say so, maps are enlarged without stretching."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from matlabel_bench.errors import ContractError, DataError
from matlabel_bench.images import VOC_PALETTE, enlarge, read_image, read_label, write_label


def ramp(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) * 7 % 256).astype(np.uint8).reshape(shape)


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    PIL.Image.fromarray(ramp(5, 7, 3)).save(tmp_path / "a.png")
    got = read_image(tmp_path / "a.png")
    assert got.dtype == np.uint8 and got.flags.writeable
    np.testing.assert_array_equal(got, ramp(5, 7, 3))


def test_grey_is_repeated(tmp_path: Path) -> None:
    PIL.Image.fromarray(ramp(5, 7)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), ramp(5, 7)[:, :, None].repeat(3, 2))


def test_sixteen_bit_grey_is_scaled(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 1].tolist() == [0, 1, 128, 255]


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], np.uint8)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    write_label(tmp_path / "a.png", np.array([[0, 15]], np.uint8))
    assert read_image(tmp_path / "a.png").tolist() == [[[0, 0, 0], [192, 128, 128]]]


def test_cmyk_is_converted(tmp_path: Path) -> None:
    PIL.Image.new("CMYK", (4, 3), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    got = read_image(tmp_path / "a.jpg")
    assert got.shape == (3, 4, 3)
    assert got[..., 0].min() > 250 and got[..., 1:].max() < 5


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    PIL.Image.fromarray(ramp(5, 7, 3)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(ramp(5, 7, 3), -1))


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    PIL.Image.fromarray(ramp(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"readable image .*a\.jpg") as err:
        read_image(path)
    assert "truncated" in err.value.got and "copy or download it again" in err.value.remedy


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\nrubbish"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match="cannot be decoded"):
        read_image(tmp_path / "a.png")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file") as err:
        read_image(tmp_path / "a.png")
    assert "check the data root" in err.value.remedy


def test_an_image_without_colours_is_refused(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="8 or 16 bits a channel") as err:
        read_image(tmp_path / "a.tif")
    assert "mode F" in err.value.got


def test_a_label_comes_back_with_its_notes_and_colours(tmp_path: Path) -> None:
    label = np.array([[0, 1, 20], [255, 3, 0]], np.uint8)
    write_label(tmp_path / "a.png", label, {"trimap": "class 3: no-foreground"})
    np.testing.assert_array_equal(read_label(tmp_path / "a.png", 20), label)
    with PIL.Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P" and picture.info["trimap"] == "class 3: no-foreground"
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), VOC_PALETTE[label])
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_the_palette_is_the_one_of_pascal_voc() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {i: tuple(VOC_PALETTE[i].tolist()) for i in known} == known


@pytest.mark.parametrize("mode", ["L", "1", "I;16"])
def test_grey_masks_are_read_as_ids(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 1], [1, 0]], np.uint16 if mode == "I;16" else np.uint8)
    picture = PIL.Image.fromarray(values * 255).convert("1") if mode == "1" else PIL.Image.fromarray(values)
    picture.save(tmp_path / "a.png")
    got = read_label(tmp_path / "a.png", 1)
    assert got.dtype == np.uint8 and got.tolist() == [[0, 1], [1, 0]]


def test_values_out_of_range_are_listed(tmp_path: Path) -> None:
    write_label(tmp_path / "a.png", np.array([[0, 6, 7, 40, 255]], np.uint8))
    with pytest.raises(DataError, match=r"mask values 0\.\.6 and 255") as err:
        read_label(tmp_path / "a.png", 6)
    assert err.value.got == f"{tmp_path / 'a.png'} with 7, 40"
    assert "repaint these pixels" in err.value.remedy


def test_a_coloured_mask_is_refused(tmp_path: Path) -> None:
    PIL.Image.fromarray(ramp(2, 2, 3)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="palette or grey PNG") as err:
        read_label(tmp_path / "a.png", 6)
    assert "mode RGB" in err.value.got and "turn its colours into class ids" in err.value.remedy


def test_only_labels_are_written(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="uint8, h x w") as err:
        write_label(tmp_path / "a.png", np.zeros((2, 2), np.int64))
    assert err.value.got == "int64, 2 x 2"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file or directory") as err:
        write_label(tmp_path / "absent" / "a.png", np.zeros((2, 2), np.uint8))
    assert "free space, check the permissions" in err.value.remedy


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_label(tmp_path / "a.png", np.zeros((2, 2), np.uint8))

    def full(self: PIL.Image.Image, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PIL.Image.Image, "save", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_label(tmp_path / "a.png", np.ones((2, 2), np.uint8))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert read_label(tmp_path / "a.png", 1).max() == 0


@pytest.mark.parametrize(
    ("size", "grid"), [((375, 500), (47, 63)), ((112, 112), (14, 14)), ((9, 5), (9, 5)), ((30, 41), (4, 6))]
)
def test_enlarging_equals_torch_and_a_crop(size: tuple[int, int], grid: tuple[int, int]) -> None:
    import torch
    from torch.nn import functional

    maps = np.random.default_rng(0).random((3, *grid), dtype=np.float32)
    scale = [-(-n // g) for n, g in zip(size, grid, strict=True)]
    full = functional.interpolate(
        torch.from_numpy(maps)[None], scale_factor=tuple(map(float, scale)), mode="bilinear", align_corners=False
    )[0].numpy()
    got = enlarge(maps, size)
    assert got.dtype == np.float32 and got.shape == (3, *size)
    np.testing.assert_allclose(got, full[:, : size[0], : size[1]], atol=1e-6)


def test_enlarging_neither_leaves_the_range_nor_stretches() -> None:
    maps = np.zeros((1, 47, 63), np.float32)
    maps[0, 10, 20] = 1
    large = enlarge(maps, (375, 500))[0]
    rows, columns = large.nonzero()
    assert large.max() <= 1 and large.min() == 0
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == (8 * 10.5, 8 * 20.5)


def test_no_map_gives_no_map_and_no_grid_is_an_error() -> None:
    assert enlarge(np.zeros((0, 4, 4), np.float32), (30, 30)).shape == (0, 30, 30)
    with pytest.raises(ContractError, match="grid of at least 1 x 1"):
        enlarge(np.zeros((2, 0, 4), np.float32), (30, 30))
