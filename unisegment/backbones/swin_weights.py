# SPDX-License-Identifier: Apache-2.0
"""Weights of Swin Transformers: two sets of names, the sizes that follow from the shapes, and windows of another size.

Ours are the names of transformers' SwinBackbone in memory (`swin.encoder.layers.0.blocks.0.attention.q_proj.weight`,
…), without a prefix. The official ones are Microsoft's (`layers.0.blocks.0.attn.qkv.weight`, …): those of its ImageNet
classifiers, and, without `head` and `norm` but with `norm0` to `norm3` behind the stages, of the backbone in
checkpoints of the original Mask2Former under `backbone.`.
"""

import math
import re
from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import SwinConfig

from unisegment.backbones.weight_fit import STAGES, layer_counts, require_expressible, size_of
from unisegment.ops.weight_names import WeightNames

_OWN_BLOCK, _OFFICIAL_BLOCK = "swin.encoder.layers.{i}.blocks.{j}", "layers.{i}.blocks.{j}"
_TABLE = "relative_position_bias_table"

OFFICIAL_NAMES = WeightNames(
    (
        ("swin.embeddings.patch_embeddings.projection", "patch_embed.proj"),
        ("swin.embeddings.norm", "patch_embed.norm"),
        (f"{_OWN_BLOCK}.layernorm_before", f"{_OFFICIAL_BLOCK}.norm1"),
        (f"{_OWN_BLOCK}.layernorm_after", f"{_OFFICIAL_BLOCK}.norm2"),
        (f"{_OWN_BLOCK}.attention.o_proj", f"{_OFFICIAL_BLOCK}.attn.proj"),
        (f"{_OWN_BLOCK}.attention.relative_position_bias.{_TABLE}", f"{_OFFICIAL_BLOCK}.attn.{_TABLE}"),
        (f"{_OWN_BLOCK}.mlp.fc1", f"{_OFFICIAL_BLOCK}.mlp.fc1"),
        (f"{_OWN_BLOCK}.mlp.fc2", f"{_OFFICIAL_BLOCK}.mlp.fc2"),
        ("swin.encoder.layers.{i}.downsample.reduction", "layers.{i}.downsample.reduction"),
        ("swin.encoder.layers.{i}.downsample.norm", "layers.{i}.downsample.norm"),
        *((f"hidden_states_norms.{stage}", f"norm{index}") for index, stage in enumerate(STAGES)),
    ),
    fused=((f"{_OWN_BLOCK}.attention.{{part}}_proj.{{leaf}}", f"{_OFFICIAL_BLOCK}.attn.qkv.{{leaf}}"),),
    kind="the official Swin Transformer",
)
OFFICIAL_ONLY = re.compile(r"(head|norm)\.(weight|bias)|.+\.(attn_mask|attn\.relative_position_index)")
"""Official names without a counterpart: the classifier, the norm before it, and constants that follow from sizes."""

_BLOCK = re.compile(r"swin\.encoder\.layers\.(\d+)\.blocks\.(\d+)\.")


def infer_config(weights: Mapping[str, Tensor]) -> SwinConfig:
    """Return the config of the Swin Transformer that has these weights; what shapes do not say is Mask2Former's.

    Args:
        weights: Weights under our names.

    Raises:
        ValueError: When a stage is missing, or transformers' Swin cannot be what the shapes say.
    """
    depths = layer_counts(weights, _BLOCK, "Swin Transformer")
    first = "swin.encoder.layers.{}.blocks.0"
    table = f"{first}.attention.relative_position_bias.{_TABLE}"
    embed_dim = size_of(weights, "swin.embeddings.patch_embeddings.projection.weight")
    num_heads = [size_of(weights, table.format(stage), 1) for stage in range(4)]
    for stage, heads in enumerate(num_heads):
        if embed_dim * 2**stage % heads:
            name = table.format(stage)
            raise ValueError(f"{name!r} has {heads} heads, which {embed_dim * 2**stage} channels cannot be split into.")
    windows = {_window(name, table): name for name, table in _tables(weights).items()}
    if len(windows) > 1:
        raise ValueError(f"All windows of a Swin have the same size, but these tables differ: {windows}.")
    config = SwinConfig(
        patch_size=size_of(weights, "swin.embeddings.patch_embeddings.projection.weight", 2),
        embed_dim=embed_dim,
        depths=depths,
        num_heads=num_heads,
        window_size=next(iter(windows)),
        mlp_ratio=size_of(weights, f"{first.format(0)}.mlp.fc1.weight") / embed_dim,
        qkv_bias=f"{first.format(0)}.attention.q_proj.bias" in weights,
        drop_path_rate=0.3,
        layer_norm_eps=1e-5,
        out_features=STAGES,
    )
    require_expressible(weights, config, "transformers' Swin cannot have these weights")
    return config


def resize_tables(weights: Mapping[str, Tensor], window_size: int) -> dict[str, Tensor]:
    """Return weights of a Swin for windows of another size; tables that fit already stay as they are.

    Args:
        weights: Weights under our names.
        window_size: Side of the wanted windows, in patches.

    Raises:
        ValueError: When a table does not belong to a square window.

    Source:
        Swin-Transformer (MIT), utils.py, load_pretrained.
    """
    return dict(weights) | {
        name: _resize(table, old, window_size)
        for name, table in _tables(weights).items()
        if (old := _window(name, table)) != window_size
    }


def relative_position_index(window_size: int) -> Int[Tensor, "n n"]:
    """Return the row of the bias table for each pair of patches of a window: the official buffer of this name.

    Args:
        window_size: Side of the window, in patches; n is its square.
    """
    patches = torch.cartesian_prod(torch.arange(window_size), torch.arange(window_size))
    offsets = patches[:, None] - patches[None] + window_size - 1
    return offsets[..., 0] * (2 * window_size - 1) + offsets[..., 1]


def _tables(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if name.endswith(_TABLE)}


def _window(name: str, table: Tensor) -> int:
    """Return the side of the window whose table this is: one row for each offset between two patches."""
    side = math.isqrt(len(table)) if table.ndim == 2 else 0
    if side % 2 == 0 or side * side != len(table):
        raise ValueError(
            f"{name!r} has shape {tuple(table.shape)}; a square window has (2 * side - 1)**2 rows, one for each offset."
        )
    return (side + 1) // 2


def _resize(table: Tensor, old: int, new: int) -> Tensor:
    grid = table.float().T.reshape(1, -1, 2 * old - 1, 2 * old - 1)
    resized = interpolate(grid, size=(2 * new - 1, 2 * new - 1), mode="bicubic", align_corners=False)
    return resized.flatten(2)[0].T.to(table.dtype)
