# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from torch.nn.functional import conv2d, gelu, layer_norm, pad
from transformers import SwinConfig
from transformers.models.swin.modeling_swin import SwinBackbone

from unisegment.backbones.swin_weights import (
    OFFICIAL_NAMES,
    OFFICIAL_ONLY,
    infer_config,
    relative_position_index,
    resize_tables,
)
from unisegment.backbones.transformers_backbone import TransformersBackbone

DIM, DEPTHS, HEADS, WINDOW = 16, (2, 1, 3, 2), (1, 2, 4, 8), 3
STRIDES = (4, 8, 16, 32)
TABLE = "layers.2.blocks.1.attn.relative_position_bias_table"
OWN_TABLE = "swin.encoder.layers.2.blocks.1.attention.relative_position_bias.relative_position_bias_table"


def swin(window=WINDOW):
    """Return random weights of a Swin under official names: an ImageNet classifier and Mask2Former's norms in one."""
    state = {}

    def linear(name, out_channels, in_channels, bias=True):
        state[f"{name}.weight"] = torch.randn(out_channels, in_channels) / math.sqrt(in_channels)
        if bias:
            state[f"{name}.bias"] = torch.randn(out_channels) / 4

    def norm(name, channels):
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.rand(channels) + 0.5, torch.randn(channels)

    state["patch_embed.proj.weight"], state["patch_embed.proj.bias"] = torch.randn(DIM, 3, 4, 4), torch.randn(DIM)
    norm("patch_embed.norm", DIM)
    for stage, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
        channels = DIM * 2**stage
        for block in (f"layers.{stage}.blocks.{index}" for index in range(depth)):
            norm(f"{block}.norm1", channels)
            state[f"{block}.attn.relative_position_bias_table"] = torch.randn((2 * window - 1) ** 2, heads)
            state[f"{block}.attn.relative_position_index"] = torch.zeros(window**2, window**2, dtype=torch.long)
            state[f"{block}.attn_mask"] = torch.zeros(4, window**2, window**2)
            linear(f"{block}.attn.qkv", 3 * channels, channels)
            linear(f"{block}.attn.proj", channels, channels)
            norm(f"{block}.norm2", channels)
            linear(f"{block}.mlp.fc1", 4 * channels, channels)
            linear(f"{block}.mlp.fc2", channels, 4 * channels)
        norm(f"norm{stage}", channels)
        if stage < 3:
            norm(f"layers.{stage}.downsample.norm", 4 * channels)
            linear(f"layers.{stage}.downsample.reduction", 2 * channels, 4 * channels, bias=False)
    norm("norm", channels)
    linear("head", 1000, channels)
    return state


def features(state, x, window=WINDOW):
    """The forward pass of a Swin Transformer (arXiv:2103.14030) window by window, with a norm behind each stage."""

    def linear(name, x):
        return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)

    def norm(name, x):
        return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-5)

    def attention(name, tokens, heads, regions):
        batch, length, channels = tokens.shape
        query, key, value = linear(f"{name}.qkv", tokens).view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        logits = query @ key.transpose(-1, -2) / math.sqrt(channels // heads)
        table = state[f"{name}.relative_position_bias_table"]
        for i in range(length):
            for j in range(length):
                dy, dx = i // window - j // window, i % window - j % window
                logits[..., i, j] += table[(dy + window - 1) * (2 * window - 1) + dx + window - 1]
                logits[..., i, j] -= 100 * (regions[i] != regions[j])
        return linear(f"{name}.proj", (logits.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, channels))

    def windowed(name, x, heads, shift):
        height, width = x.shape[1:3]
        rows, columns = -(-height // window) * window, -(-width // window) * window
        x = pad(x, (0, 0, 0, columns - width, 0, rows - height))
        result = torch.empty_like(x)
        inside = [(a, b) for a in range(window) for b in range(window)]
        for top in range(0, rows, window):
            for left in range(0, columns, window):
                # In shifted windows, patches from both ends of the map meet; they do not see each other.
                regions = [
                    ((top + a >= rows - shift) * bool(shift), (left + b >= columns - shift) * bool(shift))
                    for a, b in inside
                ]
                ys = torch.tensor([(top + a + shift) % rows for a, _ in inside])
                xs = torch.tensor([(left + b + shift) % columns for _, b in inside])
                result[:, ys, xs] = attention(f"{name}.attn", x[:, ys, xs], heads, regions)
        return result[:, :height, :width]

    def even(size):
        return size + size % 2

    x = pad(x, (0, -x.shape[-1] % 4, 0, -x.shape[-2] % 4))
    x = conv2d(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=4).permute(0, 2, 3, 1)
    x = norm("patch_embed.norm", x)
    maps = []
    for stage, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
        for index in range(depth):
            name = f"layers.{stage}.blocks.{index}"
            x = x + windowed(name, norm(f"{name}.norm1", x), heads, shift=window // 2 if index % 2 else 0)
            x = x + linear(f"{name}.mlp.fc2", gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", x))))
        maps.append(norm(f"norm{stage}", x).permute(0, 3, 1, 2))
        if stage < 3:
            height, width = x.shape[1:3]
            x = pad(x, (0, 0, 0, even(width) - width, 0, even(height) - height))
            x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
            x = linear(f"layers.{stage}.downsample.reduction", norm(f"layers.{stage}.downsample.norm", x))
    return maps


def bicubic(table, old, new):
    """Resize a bias table as a picture: cubic convolution with a = -0.75, pixel centres aligned, borders repeated."""
    size, wanted = 2 * old - 1, 2 * new - 1
    weights = torch.zeros(wanted, size)
    for row in range(wanted):
        position = (row + 0.5) * size / wanted - 0.5
        for tap in range(math.floor(position) - 1, math.floor(position) + 3):
            t, a = abs(position - tap), -0.75
            near = (a + 2) * t**3 - (a + 3) * t**2 + 1
            far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
            weights[row, min(max(tap, 0), size - 1)] += near if t <= 1 else far
    grid = table.view(size, size, -1)
    return torch.einsum("yi,xj,ijm->yxm", weights, weights, grid).reshape(wanted**2, -1)


def to_own(state):
    return OFFICIAL_NAMES.to_ours({name: value for name, value in state.items() if not OFFICIAL_ONLY.fullmatch(name)})


def assert_close_in_scale(ours, theirs):
    for own, other in zip(ours, theirs, strict=True):
        assert own.shape == other.shape
        assert (own - other).abs().max() <= 1e-5 * other.abs().max()


@pytest.mark.parametrize("size", [(37, 51), (96, 64)])
def test_a_file_of_official_weights_gives_the_features_of_the_official_code(tmp_path, size):
    state = swin()
    path = str(tmp_path / "official.pth")
    torch.save({"model": state}, path)
    backbone = TransformersBackbone(infer_config(to_own(state)), STRIDES, freeze_norm=False).eval()
    backbone.load_pretrained(path)
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        assert_close_in_scale(backbone(x), features(state, x))


def test_the_norms_behind_the_stages_stay_fresh_where_the_file_has_none(tmp_path):
    state = {name: value for name, value in swin().items() if not name.startswith(("norm0", "norm1", "norm2", "norm3"))}
    path = str(tmp_path / "classifier.pth")
    torch.save({"model": state}, path)
    backbone = TransformersBackbone(infer_config(to_own(state)), STRIDES, freeze_norm=False).eval()
    backbone.load_pretrained(path)
    for stage in range(4):
        state |= {f"norm{stage}.weight": torch.ones(DIM * 2**stage), f"norm{stage}.bias": torch.zeros(DIM * 2**stage)}
    x = torch.randn(1, 3, 37, 51)
    with torch.no_grad():
        assert_close_in_scale(backbone(x), features(state, x))


def test_windows_of_another_size_get_resized_tables(tmp_path):
    state = swin()
    path = str(tmp_path / "official.pth")
    torch.save({"model": state}, path)
    config = infer_config(to_own(state))
    config.window_size = 5
    backbone = TransformersBackbone(config, STRIDES, freeze_norm=False).eval()
    backbone.load_pretrained(path)
    resized = {name: bicubic(value, 3, 5) if name.endswith("bias_table") else value for name, value in state.items()}
    own = to_own(resized)
    for name, value in backbone.body.state_dict().items():
        torch.testing.assert_close(value, own[name])
    x = torch.randn(1, 3, 37, 51)
    with torch.no_grad():
        assert_close_in_scale(backbone(x), features(resized, x, window=5))


def test_tables_that_fit_stay_as_they_are():
    own = to_own(swin())
    assert resize_tables(own, WINDOW)[OWN_TABLE] is own[OWN_TABLE]
    smaller = resize_tables(own, 2)[OWN_TABLE]
    torch.testing.assert_close(smaller, bicubic(own[OWN_TABLE], 3, 2))
    half = resize_tables({OWN_TABLE: own[OWN_TABLE].bfloat16()}, 5)[OWN_TABLE]
    assert half.dtype == torch.bfloat16
    assert half.shape == (81, 4)


def test_names_go_both_ways_and_sizes_come_back():
    state = swin()
    own = to_own(state)
    back = OFFICIAL_NAMES.to_theirs(own)
    assert back.keys() == {name for name in state if not OFFICIAL_ONLY.fullmatch(name)}
    assert all(torch.equal(value, state[name]) for name, value in back.items())
    config = infer_config(own)
    assert (config.embed_dim, config.depths, config.num_heads) == (DIM, list(DEPTHS), list(HEADS))
    assert (config.window_size, config.patch_size, config.mlp_ratio, config.qkv_bias) == (WINDOW, 4, 4.0, True)
    assert (config.drop_path_rate, config.layer_norm_eps) == (0.3, 1e-5)
    assert config.out_features == ["stage1", "stage2", "stage3", "stage4"]
    no_bias = {name: value for name, value in state.items() if not name.endswith("qkv.bias")}
    assert not infer_config(to_own(no_bias)).qkv_bias


@pytest.mark.parametrize(
    ("embed_dim", "depths", "num_heads", "window"),
    [
        (96, [2, 2, 6, 2], [3, 6, 12, 24], 7),
        (96, [2, 2, 18, 2], [3, 6, 12, 24], 7),
        (128, [2, 2, 18, 2], [4, 8, 16, 32], 12),
        (192, [2, 2, 18, 2], [6, 12, 24, 48], 12),
    ],
)
def test_real_sizes(embed_dim, depths, num_heads, window):
    sizes = {"embed_dim": embed_dim, "depths": depths, "num_heads": num_heads, "window_size": window}
    with torch.device("meta"):
        body = SwinBackbone(SwinConfig(**sizes, out_features=["stage1", "stage2", "stage3", "stage4"]))
    own = {name: value for name, value in body.state_dict().items() if not name.startswith("swin.layernorm.")}
    theirs = OFFICIAL_NAMES.to_theirs(own)
    # 13 for each block, 3 for each downsampling, 4 for the patches, 2 for each norm behind a stage.
    assert len(theirs) == 13 * sum(depths) + 3 * 3 + 4 + 2 * 4
    assert theirs["layers.2.blocks.5.attn.qkv.weight"].shape == (12 * embed_dim, 4 * embed_dim)
    assert theirs["layers.0.downsample.reduction.weight"].shape == (2 * embed_dim, 4 * embed_dim)
    assert theirs["norm3.weight"].shape == (8 * embed_dim,)
    back = OFFICIAL_NAMES.to_ours(theirs)
    assert {name: value.shape for name, value in back.items()} == {name: value.shape for name, value in own.items()}
    config = infer_config(own)
    assert {key: getattr(config, key) for key in sizes} == sizes


@pytest.mark.parametrize("window", [1, 2, 3, 7])
def test_the_position_index_is_that_of_transformers(window):
    index = relative_position_index(window)
    body = SwinBackbone(SwinConfig(embed_dim=16, depths=[1], num_heads=[2], window_size=window))
    buffer = body.swin.encoder.layers[0].blocks[0].attention.relative_position_bias.relative_position_index
    assert index.shape == (window**2, window**2)
    assert index.dtype == torch.int64
    assert torch.equal(index.flatten(), buffer.flatten())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({TABLE: torch.zeros(26, 4)}, r"blocks.1.*bias_table' has shape \(26, 4\); a square window has \(2 \* side"),
        ({TABLE: torch.zeros(16, 4)}, r"has shape \(16, 4\); a square window"),
        ({TABLE: torch.zeros(25)}, r"has shape \(25,\); a square window"),
        (
            {TABLE: torch.zeros(81, 4)},
            r"All windows of a Swin have the same size, but these .* 5: '.*layers.2.blocks.1",
        ),
        ({TABLE: torch.zeros(25, 2)}, r"cannot have these weights: .* \(25, 2\) instead of \(25, 4\)"),
        ({"layers.1.blocks.0.attn.relative_position_bias_table": torch.zeros(25, 3)}, "has 3 heads, which 32 channels"),
        ({"layers.3.blocks.1.mlp.fc1.weight": torch.zeros(96, 128)}, r"\(96, 128\) instead of \(512, 128\)"),
        ({"patch_embed.proj.weight": torch.zeros(16, 3, 4, 2)}, r"\(16, 3, 4, 2\) instead of \(16, 3, 4, 4\)"),
        ({"patch_embed.proj.weight": torch.zeros(0, 3, 4, 4)}, r"there is nothing along axis 0"),
    ],
)
def test_weights_that_contradict_each_other_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        infer_config(to_own(swin() | change))


def test_missing_weights_are_named():
    own = to_own(swin())
    with pytest.raises(ValueError, match=r"A Swin Transformer has stages 0 to 3; .* \[0, 1, 2\]"):
        infer_config({name: value for name, value in own.items() if "layers.3" not in name})
    with pytest.raises(ValueError, match=r"4 weights are missing \(first: swin.encoder.layers.2.blocks.1.mlp"):
        infer_config({name: value for name, value in own.items() if "layers.2.blocks.1.mlp" not in name})
    with pytest.raises(ValueError, match=r"the official Swin Transformer .* 'absolute_pos_embed'"):
        to_own(swin() | {"absolute_pos_embed": torch.zeros(1, 49, 16)})
