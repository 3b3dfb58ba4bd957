"""MatteFormer's network: the names and shapes of its weights, and the facts of its parts, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from matlabel_bench.types import BACKGROUND, FOREGROUND, UNKNOWN
from matlabel_mattings.matteformer.attention import PriorAttention, from_windows, shift_mask, to_windows
from matlabel_mattings.matteformer.decoder import Alphas, Residual
from matlabel_mattings.matteformer.encoder import PRIOR_ORDER, Block, Merge, Skip, priors
from matlabel_mattings.matteformer.fusion import dilate, fuse, uncertain
from matlabel_mattings.matteformer.network import Network, normalised, one_hot, padded
from matlabel_mattings.matteformer.sizes import SIZES, Size
from matlabel_mattings.matteformer.spectral import Direction, SpectralConv

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
SPECTRAL = ("module.weight_u", "module.weight_v", "module.weight_bar")


def named(prefix: str, *names: str) -> set[str]:
    return {f"{prefix}.{name}" for name in names}


def encoder_names() -> set[str]:
    out = named("encoder.patch_embed", "proj.weight", "proj.bias", "norm.weight", "norm.bias")
    for stage, depth in enumerate((2, 2, 6, 2)):
        out |= named(f"encoder.norm{stage}", "weight", "bias")
        for block in range(depth):
            at = f"encoder.layers.{stage}.blocks.{block}"
            out |= named(at, "attn.relative_position_bias_table", "attn.relative_position_index")
            for layer in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
                out |= named(f"{at}.{layer}", "weight", "bias")
        if stage < 3:
            out |= named(f"encoder.layers.{stage}.downsample", "reduction.weight", "norm.weight", "norm.bias")
    for level in range(6):
        for conv, norm in ((0, 2), (3, 5)):
            out |= named(f"encoder.shortcut.{level}.{conv}", *SPECTRAL) | named(
                f"encoder.shortcut.{level}.{norm}", *NORM
            )
    return out


def decoder_names() -> set[str]:
    out = named("decoder.conv1", *SPECTRAL) | named("decoder.bn1", *NORM)
    for layer, blocks in enumerate((2, 3, 3, 2), 1):
        out |= named(f"decoder.layer{layer}.0.upsample.1", *SPECTRAL) | named(
            f"decoder.layer{layer}.0.upsample.2", *NORM
        )
        for block in range(blocks):
            for i in (1, 2):
                at = f"decoder.layer{layer}.{block}"
                out |= named(f"{at}.conv{i}", *SPECTRAL) | named(f"{at}.bn{i}", *NORM)
    for scale in (1, 4, 8):
        out |= named(f"decoder.refine_OS{scale}", "0.weight", "3.weight", "3.bias") | named(
            f"decoder.refine_OS{scale}.1", *NORM
        )
    return out


@pytest.fixture(scope="module")
def published() -> Network:
    with torch.device("meta"):
        return Network(SIZES["swin_t"])


def test_the_names_are_those_of_the_official_checkpoint(published: Network) -> None:
    assert published.state_dict().keys() == encoder_names() | decoder_names()


def test_the_numbers_are_those_of_the_official_checkpoint(published: Network) -> None:
    """Measured on the reference at f09f090."""
    parameters, buffers = dict(published.named_parameters()), dict(published.named_buffers())
    assert (len(published.state_dict()), len(parameters), len(buffers)) == (509, 377, 132)
    assert sum(p.numel() for p in parameters.values()) == 44_813_136
    assert sum(p.numel() for k, p in parameters.items() if k.startswith("encoder.")) == 35_437_005
    assert sum(p.numel() for k, p in parameters.items() if k.startswith("decoder.")) == 9_376_131
    vectors = {k for k in parameters if k.endswith(("weight_u", "weight_v"))}
    assert sum(p.numel() for k, p in parameters.items() if k not in vectors) == 44_747_130
    assert {k for k, p in parameters.items() if not p.requires_grad} == vectors


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("encoder.patch_embed.proj.weight", (96, 6, 4, 4)),
        ("encoder.layers.2.blocks.5.attn.relative_position_bias_table", (169 + 18, 12)),
        ("encoder.layers.2.blocks.5.attn.relative_position_index", (49, 49 + 18)),
        ("encoder.layers.0.downsample.reduction.weight", (192, 384)),
        ("encoder.shortcut.1.0.module.weight_bar", (32, 96, 3, 3)),
        ("encoder.shortcut.5.3.module.weight_bar", (512, 512, 3, 3)),
        ("decoder.layer1.0.conv1.module.weight_bar", (512, 512, 4, 4)),
        ("decoder.layer1.0.conv2.module.weight_v", (512 * 9,)),
        ("decoder.layer4.0.upsample.1.module.weight_bar", (32, 64, 1, 1)),
        ("decoder.refine_OS8.0.weight", (32, 128, 3, 3)),
    ],
)
def test_shapes_of_the_official_checkpoint(published: Network, name: str, shape: tuple[int, ...]) -> None:
    assert tuple(published.state_dict()[name].shape) == shape


def test_both_sizes_give_three_alphas_of_the_image() -> None:
    for name, size in SIZES.items():
        torch.manual_seed(0)
        network = Network(size).train()  # one power iteration: with random vectors every alpha is 0 or 1
        with torch.inference_mode():
            alphas = network(torch.randn(1, 3, 64, 96), one_hot(np.full((64, 96), UNKNOWN, np.uint8))[None])
        for alpha in alphas:
            assert alpha.shape == (1, 1, 64, 96), name
            assert alpha.min() >= 0 and alpha.max() <= 1
            assert alpha.std() > 0


PINNED = [
    0.880715680110, 0.881557754667, 0.880809174089,
    0.869131131536, 0.872721516134, 0.875879314278,
    0.898558203008, 0.876241136389, 0.883008386834,
]  # fmt: skip


def test_the_forward_pass_stays_as_it_was_compared() -> None:
    """Values at the commit at which docs/equivalence/matteformer.py found the network equal to the reference."""
    network = Network(Size(8, (2, 2, 2, 2), (1, 1, 2, 2), 4, (1, 1, 1, 1))).double().eval()
    with torch.no_grad():
        for i, (key, value) in enumerate(sorted(network.state_dict().items())):
            if value.is_floating_point():
                wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * (1.7 + 0.013 * i)).view(value.shape)
                value.copy_(1 + 0.3 * wave if key.endswith("running_var") or value.ndim == 1 else 0.3 * wave)
        for part in network.modules():
            if isinstance(part, Direction):
                part.train()
                for _ in range(3):
                    part()
                part.eval()
        image = torch.sin(torch.arange(3 * 64 * 64, dtype=torch.float64) * 0.1).view(1, 3, 64, 64)
        plane = np.full((64, 64), UNKNOWN, np.uint8)
        plane[:20], plane[40:] = FOREGROUND, BACKGROUND
        alphas = network(image, one_hot(plane)[None].double())
    got = [float(alpha[0, 0, y, x]) for alpha in alphas for y, x in ((0, 0), (31, 17), (63, 63))]
    assert got == pytest.approx(PINNED, abs=1e-9)


# --- prior tokens -------------------------------------------------------------------------------------------------


def test_tokens_are_means_over_unknown_background_foreground_in_this_order() -> None:
    """Channels of the trimap are background, unknown, foreground; the second token is the true background's."""
    patches = torch.tensor([[[[1.0, 10.0], [2.0, 20.0]], [[4.0, 40.0], [9.0, 90.0]]]])
    trimap = torch.tensor([[[[1, 1], [0, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 1]]]]).float()
    tokens = priors(patches, trimap[:, PRIOR_ORDER])
    assert tokens.tolist() == [[[4.0, 40.0], [1.5, 15.0], [9.0, 90.0]]]


def test_an_empty_area_has_a_token_of_zeros() -> None:
    areas = torch.zeros(1, 3, 2, 2)
    areas[:, 0] = 1
    assert priors(torch.ones(1, 2, 2, 4), areas).tolist() == [[[1.0] * 4, [0.0] * 4, [0.0] * 4]]


def test_each_block_adds_its_own_tokens_behind_those_it_was_given() -> None:
    torch.manual_seed(0)
    block = Block(8, 2, 7, 1, 0.0).eval()
    for part in (block.attn.proj, block.mlp.fc2):  # then the block leaves everything as it is
        nn.init.zeros_(part.weight)
        nn.init.zeros_(part.bias)
    x, earlier = torch.randn(1, 7, 7, 8), torch.randn(1, 3, 8)
    areas = torch.nn.functional.one_hot(torch.arange(49).view(1, 7, 7) % 3, 3).permute(0, 3, 1, 2).float()
    same, tokens = block(x, earlier, areas, shift_mask((7, 7), 7, 3, x.device))
    torch.testing.assert_close(same, x)
    torch.testing.assert_close(tokens, torch.cat([earlier, priors(x, areas)], 1))


# --- attention ----------------------------------------------------------------------------------------------------


def test_rows_of_the_bias_table() -> None:
    """Patch p to patch q: 13 (row difference + 6) + column difference + 6; to token i: 169 + i, for every patch."""
    index = PriorAttention(8, 2, 7, 2).relative_position_index
    assert index.shape == (49, 49 + 9) and index.dtype == torch.int64
    assert index[0, 0] == 84 and index[0, 48] == 0 and index[48, 0] == 168
    assert index[8, 0] == 13 * (1 + 6) + 1 + 6
    assert index[:, 49:].tolist() == [list(range(169, 178))] * 49


def test_attention_by_hand() -> None:
    """One head of one channel, windows of one patch: softmax over the patch and three tokens, with their biases."""
    attention = PriorAttention(1, 1, 1, 0)
    with torch.no_grad():
        attention.qkv.weight.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        attention.qkv.bias.zero_()
        attention.proj.weight.fill_(1)
        attention.proj.bias.fill_(0.5)
        attention.relative_position_bias_table.copy_(torch.tensor([[0.1], [0.2], [0.3], [0.4]]))
        mixed, values = attention(torch.tensor([[[[0.5]]]]), torch.tensor([[[1.0], [2.0], [-1.0]]]), None)
    seen = np.array([0.5, 1.0, 2.0, -1.0])
    weight = np.exp(0.5 * 2 * seen + [0.1, 0.2, 0.3, 0.4])
    assert mixed.item() == pytest.approx(float((weight / weight.sum() * 3 * seen).sum()) + 0.5, abs=1e-6)
    assert values.flatten().tolist() == pytest.approx([3.5, 6.5, -2.5])


def test_windows_are_padded_at_right_and_bottom_and_come_back() -> None:
    x = torch.arange(1, 1 + 9 * 10, dtype=torch.float32).view(1, 9, 10, 1)
    windows = to_windows(x, 7, 0)
    assert windows.shape == (1, 4, 49, 1)
    assert windows[0, 0, :8, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 11]
    assert windows[0, 1, :8, 0].tolist() == [8, 9, 10, 0, 0, 0, 0, 18]
    assert windows[0, 3].sum() == 78 + 79 + 80 + 88 + 89 + 90
    for shift in (0, 3):
        assert torch.equal(from_windows(to_windows(x, 7, shift), 7, shift, (9, 10)), x)


def test_a_shift_brings_the_first_rows_and_columns_to_the_end() -> None:
    x = torch.arange(49.0).view(1, 7, 7, 1)
    assert to_windows(x, 7, 3)[0, 0, 0, 0] == 3 * 7 + 3
    assert to_windows(x, 7, 3)[0, 0, -1, 0] == 2 * 7 + 2


def test_the_shift_mask_parts_what_are_no_neighbours() -> None:
    mask = shift_mask((7, 10), 7, 3, torch.device("cpu"))
    assert mask.shape == (2, 49, 49)
    assert set(mask.unique().tolist()) == {-100.0, 0.0}
    free = (mask[1] == 0).sum(1).view(7, 7)  # in the last window: four regions of 4 or 3 rows by 4 or 3 columns
    assert free[0, 0] == 16 and free[0, 6] == 12 and free[6, 0] == 12 and free[6, 6] == 9
    assert (mask[0] == 0).sum(1).view(7, 7)[0, 6] == 4 * 7  # an inner window is parted by rows alone


def test_merged_patches_come_column_by_column() -> None:
    merge = Merge(1)
    with torch.no_grad():
        merge.reduction.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
    out = merge(torch.tensor([[[[0.0], [1.0]], [[2.0], [3.0]]]]))
    normal = (np.array([0.0, 2.0, 1.0, 3.0]) - 1.5) / np.sqrt(1.25 + 1e-5)  # (0,0), (1,0), (0,1), (1,1)
    assert out.flatten().tolist() == pytest.approx(normal[:2].tolist(), abs=1e-6)


def test_stochastic_depth_keeps_the_mean_and_rests_in_evaluation() -> None:
    skip, x = Skip(0.25), torch.ones(4000, 3, 2)
    torch.manual_seed(0)
    out = skip.train()(x, 1)
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(out[:, 0, 0], out[:, 2, 1])
    assert out.mean().item() == pytest.approx(1, abs=0.04)
    assert not torch.equal(skip(x, 2)[:, 0, 0], skip(x, 2)[:, 2, 0])
    assert skip.eval()(x, 1) is x


# --- spectral norm and decoder ------------------------------------------------------------------------------------


@pytest.mark.parametrize("enlarging", [False, True])
def test_spectral_convolutions_reach_a_norm_of_one(enlarging: bool) -> None:
    torch.manual_seed(0)
    conv = SpectralConv(5, 6, enlarging=enlarging).train()
    x = torch.randn(1, 5, 8, 8)
    for _ in range(60):
        out = conv(x)
    assert out.shape == ((1, 6, 16, 16) if enlarging else (1, 6, 8, 8))
    weight = conv.eval().module()
    assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-4)
    assert torch.equal(conv(x), conv(x))
    with torch.no_grad():
        conv.module.weight_bar.mul_(7)
    torch.testing.assert_close(conv.module(), weight)


def test_power_iteration_runs_in_training_alone_and_gives_no_gradient_to_the_vectors() -> None:
    torch.manual_seed(0)
    conv = SpectralConv(3, 4)
    before = conv.module.weight_u.clone()
    conv.eval()(torch.randn(1, 3, 5, 5))
    assert torch.equal(conv.module.weight_u, before)
    conv.train()(torch.randn(1, 3, 5, 5)).sum().backward()
    assert not torch.equal(conv.module.weight_u, before)
    assert conv.module.weight_u.grad is None and conv.module.weight_bar.grad is not None


def test_a_new_residual_block_is_its_skip() -> None:
    torch.manual_seed(0)
    block, x = Residual(4, 4, False).eval(), torch.randn(1, 4, 5, 6)
    torch.testing.assert_close(block(x), torch.nn.functional.leaky_relu(x, 0.2))
    wide = Residual(4, 2, True).eval()(x)
    assert wide.shape == (1, 2, 10, 12)
    assert torch.equal(wide[:, :, ::2, ::2], wide[:, :, 1::2, 1::2])


# --- what enters ----------------------------------------------------------------------------------------------------


def test_channels_of_the_trimap_and_colours() -> None:
    plane = np.array([[0, 128, 255]], np.uint8)
    assert one_hot(plane).tolist() == [[[1, 0, 0]], [[0, 1, 0]], [[0, 0, 1]]]
    pixels = normalised(np.array([[[255, 0, 51]]], np.uint8)).flatten().tolist()
    assert pixels == pytest.approx([(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225], abs=1e-6)


def test_patches_take_the_trimap_at_their_top_left_pixel() -> None:
    """A foreground of one pixel reaches the tokens where its row and column divide by 4, and nowhere else."""
    torch.manual_seed(0)
    encoder = Network(SIZES["small"]).eval().encoder
    seen = []
    encoder.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[1][0, 2].clone()))
    for y, x in ((8, 12), (9, 12)):
        plane = np.zeros((32, 32), np.uint8)
        plane[y, x] = FOREGROUND
        trimap = one_hot(plane)[None]
        with torch.inference_mode():
            encoder(torch.cat([torch.zeros(1, 3, 32, 32), trimap], 1), trimap)
    assert seen[0].nonzero().tolist() == [[2, 3]] and not seen[1].any()


@pytest.mark.parametrize(
    ("shape", "want"), [((64, 32), (128, 96)), ((61, 83), (128, 160)), ((1, 1), (96, 96)), ((33, 2), (128, 96))]
)
def test_padding_makes_multiples_of_32_with_a_margin(shape: tuple[int, int], want: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    out = padded(image)
    assert out.shape == (*want, 3)
    assert np.array_equal(out[32 : 32 + shape[0], 32 : 32 + shape[1]], image)


def test_padding_mirrors_without_repeating_the_edge_and_again_where_it_must() -> None:
    line = np.array([[1, 2, 3]], np.uint8)
    assert padded(line)[32, 26:41].tolist() == [3, 2, 1, 2, 3, 2, 1, 2, 3, 2, 1, 2, 3, 2, 1]
    assert (padded(line)[:, 33] == 2).all()


# --- fusion -----------------------------------------------------------------------------------------------------------

ELLIPSE_7 = """
...#...
.#####.
#######
#######
#######
.#####.
...#...
"""


def test_a_point_grows_to_opencvs_ellipse() -> None:
    spot = np.zeros((9, 11), bool)
    spot[4, 5] = True
    want = np.array([[c == "#" for c in line] for line in ELLIPSE_7.split()])
    out = dilate(spot, 3)
    assert np.array_equal(out[1:8, 2:9], want) and out.sum() == want.sum()
    assert np.array_equal(dilate(spot, 0), spot)
    assert dilate(spot, 7)[4].sum() == 11 and dilate(np.ones((2, 3), bool), 9).all()
    assert not dilate(np.zeros((2, 3), bool), 9).any()


def test_what_is_uncertain() -> None:
    """Neither below one grey level nor above 254 of them; sought on 640 x 640, where each pixel here is five wide."""
    alpha = torch.zeros(1, 1, 128, 128)
    alpha[0, 0, 10, 10], alpha[0, 0, 50, 50], alpha[0, 0, 90, 90] = 0.9 / 255, 254.5 / 255, 1.1 / 255
    assert uncertain(alpha, [0])[0, 0].nonzero().tolist() == [[90, 90]]
    wide = uncertain(alpha, [7])[0, 0]
    assert wide[90, 91] and not wide[90, 93] and wide.sum() > 4


def test_fusion_by_hand() -> None:
    """A pixel is four cells of the grid wide, and looks at the first of them.

    The uncertain one, 80, covers cells 320 to 323; widened by 7 cells 313 to 330, so 79 to 82 take the middle alpha;
    widened by 3 cells 317 to 326, so 80 and 81 take the finest.
    """
    coarse, middle, fine = (torch.full((1, 1, 160, 160), value) for value in (0.0, 1.0, 0.25))
    coarse[..., :40] = 1
    coarse[..., 80, 80], middle[..., 80, 80] = 0.5, 0.75
    out = fuse(Alphas(fine, middle, coarse))[0, 0]
    assert out[80, 77:85].tolist() == [0, 0, 1, 0.25, 0.25, 1, 0, 0]
    assert (out[:, :40] == 1).all() and (out[:, 41:78] == 0).all() and (out[:, 84:] == 0).all()


def test_fusion_takes_each_image_for_itself() -> None:
    coarse = torch.stack([torch.zeros(1, 32, 32), torch.full((1, 32, 32), 0.5)])
    out = fuse(Alphas(torch.full_like(coarse, 0.25), torch.ones_like(coarse), coarse))
    assert out[0].unique().tolist() == [0] and out[1].unique().tolist() == [1]
