# SPDX-License-Identifier: Apache-2.0
"""Starting points of EoMT: sizes and weights of transformers' DINOv2 (with or without registers) and DINOv3 ViT.

Patches of another size are no obstacle, nor is a table of positions for another grid: both are resampled.
"""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import PreTrainedConfig

from unisegment.backbones.config_files import PLAIN_VIT_TYPES
from unisegment.backbones.pretrained import load_pretrained_weights, pretrained_config
from unisegment.backbones.weight_fit import require_fit
from unisegment.models.eomt.checkpoint_conversion import STOCK_NAMES, split_gates
from unisegment.models.eomt.vision_transformer import VisionTransformer, resized_positions
from unisegment.ops.weight_sources import WEIGHT_ENDINGS

_SAME_KEYS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps", "layerscale_value",
)  # fmt: skip
_DINOV3_KEYS = (
    "intermediate_size", "use_gated_mlp", "num_register_tokens", "rope_theta",
    "query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias",
)  # fmt: skip
# From names of all releases of transformers to those of its Eomt models, which were made from these transformers.
_EOMT_NAMES = (
    (re.compile(r"^((encoder|model)\.)?layer\."), "layers."),
    (re.compile(r"\.attention\.attention\.([qkv])(uery|ey|alue)\."), r".attention.\1_proj."),
    (re.compile(r"\.attention\.output\.dense\."), ".attention.o_proj."),
    (re.compile(r"^norm\."), "layernorm."),
)
_POSITIONS, _MASK_TOKEN = "embeddings.position_embeddings", "embeddings.mask_token"


def sizes_of(name_or_path: str) -> dict[str, Any]:
    """Return the keys of our config that follow from a starting point.

    Args:
        name_or_path: Hub id or folder of transformers.

    Raises:
        MissingSourceError: When there is nothing of that name, or it cannot be fetched.
        ValueError: When it is no DINOv2 or DINOv3 ViT.
    """
    config: Any = _config(name_or_path)
    sizes = {key: getattr(config, key) for key in _SAME_KEYS}
    if config.model_type == "dinov3_vit":
        return {**sizes, **{key: getattr(config, key) for key in _DINOV3_KEYS}, "position_encoding": "rope"}
    return {
        **sizes,
        "position_encoding": "learned",
        "mlp_ratio": config.mlp_ratio,
        "use_swiglu_ffn": config.use_swiglu_ffn,
        "num_register_tokens": getattr(config, "num_register_tokens", 0),
        **dict.fromkeys(("query_bias", "key_bias", "value_bias"), config.qkv_bias),
    }


def load_backbone(vision_transformer: VisionTransformer, name_or_path: str) -> None:
    """Load weights of transformers into a vision transformer, resampled for its patches and its grid.

    Args:
        vision_transformer: Stays as it is when anything is wrong.
        name_or_path: As for `sizes_of`.

    Raises:
        MissingSourceError: As `sizes_of` does.
        ValueError: When the starting point cannot be read, or does not fit.
    """
    weights = read_backbone(name_or_path)
    own = vision_transformer.state_dict()
    complaint = f"{name_or_path!r} does not fit the vision transformer"
    if ("position_embeddings" in weights) != ("position_embeddings" in own):
        kinds = ("learned", "rope") if "position_embeddings" in own else ("rope", "learned")
        raise ValueError(f"{complaint}: it needs position_encoding={kinds[1]!r}, the model has {kinds[0]!r}.")
    weights["patch_proj.weight"] = resample_kernel(weights["patch_proj.weight"], vision_transformer.patch_size)
    if "position_embeddings" in weights:
        side = math.isqrt(weights["position_embeddings"].shape[1])
        grid = vision_transformer.grid_size
        weights["position_embeddings"] = resized_positions(weights["position_embeddings"], (side, side), grid)
    require_fit(weights, own, complaint)
    vision_transformer.load_state_dict(weights)


def read_backbone(name_or_path: str) -> dict[str, Tensor]:
    """Return the weights of a starting point under the names in our vision transformer, in float32.

    Args:
        name_or_path: As for `sizes_of`.

    Raises:
        MissingSourceError: As `sizes_of` does.
        ValueError: When it cannot be read.
    """
    from transformers import AutoBackbone  # which the code of models comes with: seconds

    config = _config(name_or_path)
    body = AutoBackbone.from_config(config)
    load_pretrained_weights(body, name_or_path)
    return from_transformers(body.state_dict(), config)


def from_transformers(weights: Mapping[str, Tensor], config: PreTrainedConfig) -> dict[str, Tensor]:
    """Return weights of transformers under the names in our vision transformer; nothing is resampled.

    The position of the class token, which never changes, becomes a part of that token.

    Args:
        weights: Weights under the names in memory of any release.
        config: Their config.

    Raises:
        ValueError: For names that are not known, or a table of positions that is of no square.
    """
    is_learned, renamed = config.model_type != "dinov3_vit", dict[str, Tensor]()
    for name, value in weights.items():
        for pattern, replacement in _EOMT_NAMES:
            name = pattern.sub(replacement, name)
        renamed[name.replace(".o_proj.", ".out_proj.") if is_learned else name] = value
    renamed.pop(_MASK_TOKEN, None)  # only pre-training masks patches
    positions = renamed.pop(_POSITIONS, None)
    renamed = split_gates(renamed)
    is_gated = any(".gate_proj." in name for name in renamed)
    ours = STOCK_NAMES["learned" if is_learned else "rope", is_gated].to_ours(renamed)
    ours = {name.removeprefix("backbone."): value for name, value in ours.items()}
    if positions is not None:
        if math.isqrt(positions.shape[1] - 1) ** 2 != positions.shape[1] - 1:
            raise ValueError(
                f"{_POSITIONS!r} has shape {tuple(positions.shape)}, expected one row and those of a square of patches."
            )
        ours["cls_token"] = ours["cls_token"] + positions[:, :1]
        ours["position_embeddings"] = positions[:, 1:]
    ours.setdefault("register_tokens", ours["cls_token"][:, :0])
    return ours


def resample_kernel(kernel: Float[Tensor, "c _ _ _"], patch_size: int) -> Float[Tensor, "c _ _ _"]:
    """Return the kernel that makes of resized patches what another one makes of patches, as nearly as can be.

    Larger patches give exactly the same tokens, smaller ones those of the least squared error over all patches.

    Args:
        kernel: Weights of the projection of patches, c channels out, then channels in, rows and columns.
        patch_size: Side of the new patches in pixels.

    Source:
        FlexiViT (arXiv:2212.08013), section 3.4: with R the (linear) resizing of patches, the pseudo-inverse of its
        transpose is applied. Rows and columns are resized one after the other, so are the pseudo-inverses applied.
    """
    if kernel.shape[2:] == (patch_size, patch_size):
        return kernel
    rows, columns = (_kernel_resizing(side, patch_size) for side in kernel.shape[2:])
    return torch.einsum("ph,cihw,qw->cipq", rows, kernel.double(), columns).to(kernel.dtype)


def _kernel_resizing(side: int, new_side: int) -> Float[Tensor, "new old"]:
    """Return the pseudo-inverse of the transpose of what resizes a line of pixels."""
    lines = torch.eye(side, dtype=torch.float64)[None, None]
    resized = interpolate(lines, (side, new_side), mode="bicubic", align_corners=False, antialias=True)
    return torch.linalg.pinv(resized[0, 0])


def _config(name_or_path: str) -> PreTrainedConfig:
    if os.path.isfile(name_or_path) or Path(name_or_path).suffix in WEIGHT_ENDINGS:
        raise ValueError(f"backbone: {name_or_path!r} is a file, expected a hub id or folder of transformers.")
    config = pretrained_config(name_or_path)
    if config.model_type not in PLAIN_VIT_TYPES:
        raise ValueError(
            f"backbone: {name_or_path!r} holds a {config.model_type!r}, expected a plain vision transformer of "
            f"model_type {', '.join(sorted(PLAIN_VIT_TYPES))}."
        )
    return config
