"""MatteFormer as a part: composites, losses, a training that resumes, and the live function at any size."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import default_collate

from matlabel_bench import contracts
from matlabel_bench.errors import ContractError, DataError, MattingFailed
from matlabel_bench.recipe import CHECKPOINT, WEIGHTS, save
from matlabel_bench.types import FOREGROUND, UNKNOWN, Split
from matlabel_mattings import matteformer
from matlabel_mattings.matteformer import MatteFormer, losses
from matlabel_mattings.matteformer.composites import Composites, look, make_trimap
from matlabel_mattings.matteformer.decoder import Alphas
from matlabel_mattings.matteformer.network import MEAN, STD, Network
from matlabel_mattings.matteformer.sizes import SIZES

EMPTY = Split("none", "train", ("thing",), ())
TINY = {"size": "small", "steps": 3, "batch": 2, "crop": 64, "warmup": 0.34}


def disc(h: int, w: int, radius: float) -> np.ndarray:
    """A soft disc: 255 inside, 0 outside, four pixels between."""
    y, x = np.mgrid[:h, :w]
    return np.clip((radius + 2 - np.hypot(y - h / 2, x - w / 2)) / 4 * 255, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three foregrounds and two backgrounds, of odd sizes."""
    root = tmp_path_factory.mktemp("composites")
    rng = np.random.default_rng(0)
    for name in ("fg", "alpha", "bg"):
        (root / name).mkdir()
    for i, (h, w) in enumerate(((50, 71), (90, 64), (130, 101))):
        PIL.Image.fromarray(rng.integers(0, 90, (h, w, 3)).astype(np.uint8) + i * 80).save(root / "fg" / f"{i}.png")
        PIL.Image.fromarray(disc(h, w, 14 + i)).save(root / "alpha" / f"{i}.png")
    PIL.Image.fromarray(rng.integers(0, 256, (40, 55, 3)).astype(np.uint8)).save(root / "bg" / "a.png")
    PIL.Image.fromarray(rng.integers(0, 256, (120, 80, 3)).astype(np.uint8)).save(root / "bg" / "b.jpg")
    return root


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "composites"))


# --- composites -----------------------------------------------------------------------------------------------------


def test_a_folder_is_read_by_names(folder: Path) -> None:
    found = look(folder)
    assert [p.name for p in found.foregrounds] == [p.name for p in found.alphas] == ["0.png", "1.png", "2.png"]
    assert [p.parent.name for p in found.alphas] == ["alpha"] * 3
    assert [p.name for p in found.backgrounds] == ["a.png", "b.jpg"]


def test_a_folder_without_pictures_is_told(own: Path) -> None:
    shutil.rmtree(own / "bg")
    with pytest.raises(DataError, match=r"(?s)pictures in .*bg.*no such folder.*fg/ID\.png"):
        look(own)
    (own / "bg").mkdir()
    with pytest.raises(DataError, match=r"(?s)pictures in .*bg.*no PNG or JPEG"):
        look(own)


def test_a_foreground_without_alpha_is_named(own: Path) -> None:
    (own / "alpha" / "1.png").rename(own / "alpha" / "01.png")
    with pytest.raises(DataError, match=r"(?s)no alpha/1\.png for .*fg.1\.png; did you mean '01'"):
        look(own)


def test_sizes_that_differ_are_told(own: Path) -> None:
    PIL.Image.fromarray(np.zeros((5, 7), np.uint8)).save(own / "alpha" / "1.png")
    with pytest.raises(DataError, match=r"(?s)one size.*fg.1\.png: 64 x 90.*alpha.1\.png: 7 x 5"):
        look(own)


@pytest.mark.parametrize("name", ["fg/0.png", "alpha/2.png", "bg/b.jpg"])
def test_an_unreadable_file_is_named(own: Path, name: str) -> None:
    (own / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match=rf"(?s)a readable picture .*{Path(name).name}.*copy it again"):
        look(own)


def test_a_file_cut_short_is_named_when_its_pixels_are_read(own: Path) -> None:
    for name in ("0.png", "1.png", "2.png"):
        path = own / "fg" / name
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"(?s)readable image .*fg.\d\.png"):
        Composites(look(own), 4, 64, 10, 0.0, 0)[0, 0]


def test_transparent_foregrounds_are_refused(own: Path) -> None:
    PIL.Image.fromarray(np.zeros((50, 71, 4), np.uint8)).save(own / "fg" / "0.png")
    with pytest.raises(DataError, match=r"(?s)without transparency of their own.*fg.0\.png"):
        look(own)


def test_an_item_is_a_composite(folder: Path) -> None:
    made = Composites(look(folder), 40, 64, 10, 0.0, 0)
    soft = 0
    for index in range(20):
        item = made[0, index]
        assert {k: tuple(v.shape) for k, v in item.items()} == {
            "image": (3, 64, 64),
            "foreground": (3, 64, 64),
            "background": (3, 64, 64),
            "trimap": (3, 64, 64),
            "alpha": (1, 64, 64),
            "refine": (),
            "radii": (2,),
        }
        alpha = item["alpha"]
        torch.testing.assert_close(
            item["image"], alpha * item["foreground"] + (1 - alpha) * item["background"], rtol=0, atol=1e-5
        )
        pixels = item["background"] * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
        assert pixels.min() > -1e-6 and pixels.max() < 1 + 1e-6
        assert torch.equal(item["trimap"].sum(0), torch.ones(64, 64))
        background, unknown, foreground = item["trimap"].bool()
        assert (alpha[0][background] == 0).all() and (alpha[0][foreground] == 1).all()
        soft += int(((alpha > 0) & (alpha < 1)).any())
        assert unknown[(alpha[0] > 0) & (alpha[0] < 1)].all()
    assert soft == 20  # a crop lies where alpha is neither 0 nor 1


def test_items_depend_on_seed_epoch_and_index_alone(folder: Path) -> None:
    made, again = (Composites(look(folder), 40, 64, 10, 0.0, 5) for _ in range(2))
    first = made[1, 3]
    made[0, 0]
    assert all(torch.equal(v, made[1, 3][k]) and torch.equal(v, again[1, 3][k]) for k, v in first.items())
    for other in (made[2, 3], made[1, 4], Composites(look(folder), 40, 64, 10, 0.0, 6)[1, 3]):
        assert not torch.equal(first["image"], other["image"])


def test_two_foregrounds_lie_over_one_another(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coverages 1/5 over 2/5: 0.2 + 0.8 * 0.4 = 0.52, and the colour is their mean by these shares."""
    for i, (cover, grey) in enumerate(((51, 200), (102, 30))):
        PIL.Image.fromarray(np.full((64, 64), cover, np.uint8)).save(own / "alpha" / f"{i}.png")
        PIL.Image.fromarray(np.full((64, 64, 3), grey, np.uint8)).save(own / "fg" / f"{i}.png")
    (own / "fg" / "2.png").unlink()
    made = Composites(look(own), 40, 64, 10, 0.0, 0)
    monkeypatch.setattr("matlabel_mattings.matteformer.composites.TWO", 1.0)
    seen = {
        (int(colour[5, 5, 0]), int(alpha[5, 5]))
        for colour, alpha in (made._object(np.random.default_rng(seed), 0) for seed in range(8))
    }
    mixed = round((0.2 * 200 + 0.32 * 30) / 0.52)
    assert seen == {(mixed, round(255 * 0.52)), (200, round(255 * 0.36))}


def test_finer_alphas_are_asked_by_the_trimap_first(folder: Path) -> None:
    made = Composites(look(folder), 30, 64, 10, 2.0, 0)
    late = {epoch: {int(made[epoch, i]["refine"]) for i in range(12)} for epoch in (0, 1, 2, 5, 6)}
    assert late == {0: {0}, 1: {0}, 2: {0, 1}, 5: {0, 1}, 6: {1}}


def test_trimaps_by_hand() -> None:
    alpha = np.zeros((9, 21), np.uint8)
    alpha[:, 8:] = 255
    alpha[:, 8] = 100
    line = "".join({0: ".", 128: "?", 255: "#"}[v] for v in make_trimap(alpha, 3, 1)[4])
    assert line == "." * 7 + "?" * 5 + "#" * 9
    assert (make_trimap(np.full((4, 4), 255, np.uint8), 3, 3) == FOREGROUND).all()
    assert (make_trimap(np.full((4, 4), 7, np.uint8), 0, 0) == UNKNOWN).all()


# --- losses ---------------------------------------------------------------------------------------------------------


def test_distance_is_weighted_and_sums_over_channels() -> None:
    got, want = torch.tensor([[[[1.0, 5.0]], [[2.0, 5.0]]]]), torch.zeros(1, 2, 1, 2)
    assert losses.mean_distance(got, want, torch.tensor([[[[1.0, 0.0]]]])).item() == pytest.approx(3)
    assert losses.mean_distance(got, want, torch.zeros(1, 1, 1, 2)).item() == 0


def test_the_pyramid_sees_differences_and_no_constant() -> None:
    """A level holds what blurring and halving lose; a constant loses nothing, away from and at the border."""
    assert [tuple(level.shape) for level in losses.pyramid(torch.zeros(1, 1, 64, 96))] == [
        (1, 1, 64 >> i, 96 >> i) for i in range(5)
    ]
    assert max(level.abs().max().item() for level in losses.pyramid(torch.full((1, 1, 64, 64), 0.7))) < 1e-6
    dot = torch.zeros(1, 1, 64, 64)
    dot[..., 32, 32] = 1
    line = (
        np.array([1, 4, 6, 4, 1]) / 16
    )  # rows and columns part: blurred, every second kept, blurred twice as strongly
    kept = 2 * (line[2] * line[2] + line[0] * line[0] + line[4] * line[4])
    assert losses.pyramid(dot)[0][0, 0, 32, 32].item() == pytest.approx(1 - kept**2, abs=1e-6)


def test_shares_of_the_three_alphas() -> None:
    one, zero = torch.ones(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    batch = {"alpha": zero, **{name: torch.zeros(1, 3, 64, 64) for name in ("background", "image")}}
    batch["foreground"] = torch.full((1, 3, 64, 64), 2.0)
    everywhere = Alphas(one, one, one)
    for alphas, share in (
        (Alphas(one, zero, zero), 0.4),
        (Alphas(zero, one, zero), 0.2),
        (Alphas(zero, zero, one), 0.2),
    ):
        got = losses.objective(alphas, everywhere, batch)
        assert got["loss_alpha"].item() == pytest.approx(share)
        assert got["loss_composite"].item() == pytest.approx(share * 3 * 2)
        assert got["loss_laplacian"].item() == pytest.approx(0, abs=1e-5)


def test_where_the_finer_alphas_are_asked() -> None:
    coarse = torch.zeros(2, 1, 64, 64)
    coarse[..., 32, 32] = 0.5
    middle, fine = torch.full_like(coarse, 0.7), torch.full_like(coarse, 0.9)
    unknown = torch.zeros(2, 1, 64, 64)
    unknown[..., :10, :] = 1
    alphas, weights = losses.asked(
        Alphas(fine, middle, coarse), unknown, torch.tensor([0, 1]), torch.tensor([[0, 0], [0, 0]])
    )
    assert torch.equal(weights.os4[0], unknown[0]) and torch.equal(weights.os1[0], unknown[0])
    assert torch.equal(alphas.os4[0], middle[0]) and torch.equal(alphas.os1[0], fine[0])
    assert weights.os4[1, 0].nonzero().tolist() == [[32, 32]] == weights.os1[1, 0].nonzero().tolist()
    assert alphas.os4[1, 0, 32, 32].item() == pytest.approx(0.7) and alphas.os4[1].sum().item() == pytest.approx(0.7)
    assert alphas.os1[1].sum().item() == pytest.approx(0.9)
    assert weights.os8.min() == 1


def test_a_few_steps_lower_the_losses(folder: Path) -> None:
    torch.manual_seed(0)
    network, made = losses.Trainee(SIZES["small"]), Composites(look(folder), 40, 64, 10, 0.0, 0)
    batch = default_collate([made[0, i] for i in range(2)])
    optimizer = torch.optim.Adam([{"params": params} for params, _ in network.groups()], 3e-3, betas=(0.5, 0.999))
    values = []
    for _ in range(8):
        loss = sum(network.losses(**batch).values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert np.isfinite(values).all() and min(values[-3:]) < 0.8 * values[0]


# --- the part -------------------------------------------------------------------------------------------------------


def test_a_training_resumes_bit_for_bit(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matteformer, "EPOCH", 1)
    part = MatteFormer(composites=str(folder), **TINY)
    part.fit(EMPTY, tmp_path / "straight", 0)
    real = Composites.__getitem__

    def stopping(self: Composites, at: tuple[int, int]) -> dict[str, torch.Tensor]:
        if at[0] == 2:
            raise KeyboardInterrupt
        return real(self, at)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Composites, "__getitem__", stopping)
        part.fit(EMPTY, tmp_path / "broken", 0)
    assert (tmp_path / "broken" / CHECKPOINT).is_file()
    part.fit(EMPTY, tmp_path / "broken", 0)
    assert (tmp_path / "broken" / WEIGHTS).read_bytes() == (tmp_path / "straight" / WEIGHTS).read_bytes()
    assert part.note() == "matteformer: trained here on 3 steps of composites, size small"
    alpha = part.open(tmp_path / "broken")(np.zeros((40, 50, 3), np.uint8), np.full((1, 40, 50), UNKNOWN, np.uint8))
    contracts.check_alpha(alpha, np.full((1, 40, 50), UNKNOWN, np.uint8), "matteformer")


def test_a_bad_folder_is_found_before_anything_is_trained(own: Path, tmp_path: Path) -> None:
    (own / "alpha" / "0.png").unlink()
    with pytest.raises(DataError, match=r"no alpha/0\.png"):
        MatteFormer(composites=str(own), **TINY).fit(EMPTY, tmp_path / "out", 0)
    assert not (tmp_path / "out").exists()


def test_the_recipe_is_the_papers() -> None:
    recipe = MatteFormer().recipe()
    assert (recipe.optimizer, recipe.momentum, recipe.beta2, recipe.weight_decay) == ("adam", 0.5, 0.999, 0)
    assert (recipe.steps, recipe.warmup, recipe.schedule, recipe.lr, recipe.batch) == (
        200_000,
        10_000,
        "cosine",
        1e-3,
        10,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the small size that give alphas between 0 and 1."""
    out = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    network = Network(SIZES["small"]).train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, 3, 64, 64), torch.eye(3)[torch.randint(0, 3, (2, 64, 64))].permute(0, 3, 1, 2))
    save(network, out)
    return out


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 70), (2, 3), (31, 33), (32, 64), (47, 1), (61, 70)])
def test_any_size_keeps_the_contract(trained: Path, h: int, w: int) -> None:
    rng = np.random.default_rng(h * 100 + w)
    image = rng.integers(0, 256, (h, w, 3)).astype(np.uint8)
    trimap = rng.choice(np.array([0, 128, 255], np.uint8), (2, h, w))
    trimap[1] = UNKNOWN
    before = image.copy(), trimap.copy()
    matte = MatteFormer(size="small").open(trained)
    alpha = matte(image, trimap)
    contracts.check_alpha(alpha, trimap, "matteformer")
    assert np.array_equal(alpha[0][trimap[0] == 255], np.ones((trimap[0] == 255).sum()))
    assert np.array_equal(alpha, matte(image, trimap))
    assert np.array_equal(alpha[1:], matte(image, trimap[1:]))
    assert np.array_equal(image, before[0]) and np.array_equal(trimap, before[1])


def test_a_trimap_without_unknown_pixels_is_its_own_alpha(trained: Path) -> None:
    trimap = np.zeros((2, 20, 30), np.uint8)
    trimap[1, 5:9] = FOREGROUND
    alpha = MatteFormer(size="small").open(trained)(np.zeros((20, 30, 3), np.uint8), trimap)
    assert alpha.dtype == np.float32 and np.array_equal(alpha, trimap / 255)
    assert MatteFormer(size="small").open(trained)(np.zeros((20, 30, 3), np.uint8), trimap[:0]).shape == (0, 20, 30)


def test_long_images_are_matted_smaller(trained: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 200, 3)).astype(np.uint8)
    trimap = np.full((1, 40, 200), UNKNOWN, np.uint8)
    trimap[0, :, :50], trimap[0, :, 150:] = FOREGROUND, 0
    small, large = (MatteFormer(size="small", longest=longest).open(trained)(image, trimap) for longest in (100, 0))
    contracts.check_alpha(small, trimap, "matteformer")
    assert not np.array_equal(small, large)
    assert np.array_equal(MatteFormer(size="small", longest=200).open(trained)(image, trimap), large)


def test_weights_that_give_no_numbers_fail_the_matting(trained: Path, tmp_path: Path) -> None:
    network = Network(SIZES["small"])
    torch.nn.init.constant_(network.decoder.refine_OS8[3].bias, float("nan"))
    save(network, tmp_path)
    with pytest.raises(MattingFailed, match=r"(?s)finite alphas from matteformer.*nan"):
        MatteFormer(size="small").open(tmp_path)(np.zeros((8, 8, 3), np.uint8), np.full((1, 8, 8), UNKNOWN, np.uint8))


def test_an_image_of_another_size_than_its_trimap(trained: Path) -> None:
    with pytest.raises(ContractError, match=r"(?s)same size.*\(8, 9, 3\).*\(1, 8, 8\)"):
        MatteFormer(size="small").open(trained)(np.zeros((8, 9, 3), np.uint8), np.zeros((1, 8, 8), np.uint8))
