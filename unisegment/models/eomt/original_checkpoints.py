# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the authors' code (tue-mps/eomt): read and written.

The files hold weights only. Sizes follow from their shapes; what does not follow is an argument.

Those that were trained from DINOv3 and released hold, under the names of the backbone, only what has to be added to the
weights of DINOv3, which has a licence of its own. No name tells such a file from one with whole weights.
"""

import math
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from unisegment.backbones.weight_fit import size_of
from unisegment.files import whole_file
from unisegment.models import base_weights
from unisegment.models.eomt.checkpoint_conversion import from_original, original_name, to_original
from unisegment.models.eomt.configuration_eomt import UniSegmentEomtConfig
from unisegment.ops.weight_files import weights_in

ORIGINAL_LICENSE = "mit"
"""Licence of the weights that the authors have released, but for those of DINOv3 that some are to be added to."""
_HEAD_WIDTH = 64
"""Channels of a head in every DINOv2, and in every DINOv3 but the largest."""
_NORM_EPS = {"learned": 1e-6, "rope": 1e-5}
_LAYER, _REGISTERS = "backbone.layers.", "backbone.register_tokens"
_BIASES = {
    "query_bias": "self_attn.q_proj",
    "key_bias": "self_attn.k_proj",
    "value_bias": "self_attn.v_proj",
    "proj_bias": "self_attn.out_proj",
}
_RECORD, _SETTINGS = "base_weights", ("num_attention_heads", "image_size")
"""What files of ours hold beside the weights, which do not tell it; the authors' code does not look at it."""
_ENDINGS = (".bin", ".pth", ".pt")
_PIXEL_MEAN, _PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def read_original(
    content: Mapping[str, Any],
    path: str | os.PathLike[str],
    license: str = ORIGINAL_LICENSE,
    num_attention_heads: int | None = None,
    image_size: int | None = None,
    base: str | Literal[False] | None = None,
) -> tuple[UniSegmentEomtConfig, dict[str, Tensor]]:
    """Return config and weights, under our names, of a checkpoint of the authors' code.

    Args:
        content: What its file holds.
        path: The file.
        license: Licence of the weights, unless the file itself has a record of it.
        num_attention_heads: Heads of every attention; None takes what the file says, as ours do, else one for each 64
            channels.
        image_size: Side in pixels of the images that the model was trained on, where no table of positions tells it:
            with DINOv3. None takes what the file says, else 640.
        base: For a file with DINOv3 the hub id or folder of the DINOv3 that its weights have to be added to, or False
            when they are whole.

    Raises:
        MissingSourceError: When there is no `base` of that name, or it cannot be fetched.
        ValueError: When the file is no checkpoint of the authors' code, its weights contradict each other or `base`, or
            `base` must be said and is not.
    """
    state_dict = weights_in(content, path)
    weights = from_original(state_dict)
    records = content.get(_RECORD) or [base_weights.record(path, {}, license)]
    if "backbone.position_embeddings" in weights:
        if base:
            raise ValueError(f"base: {base!r}, but only files with DINOv3 are to be added to other weights.")
    elif base:
        if _RECORD in content:
            raise ValueError(f"base: {base!r}, but {os.fspath(path)!r} is a file of ours, whose weights are whole.")
        weights = _added(weights, base)
        records = [*records, base_weights.record(base, {})]
    elif base is None and _RECORD not in content:
        raise ValueError(
            "nothing tells whether this file holds the whole weights of its DINOv3 or, as those that the authors have "
            "released, what has to be added to them. Open it by UniSegmentEomtForUniversalSegmentation.from_original, "
            "with base='facebook/dinov3-vitl16-pretrain-lvd1689m' (or the one that it was trained from), or with "
            "base=False when its weights are whole."
        )
    heads, side = (content.get(key) for key in _SETTINGS)
    sizes = infer_config(weights, num_attention_heads or heads, image_size or side or 640)
    losses = next((value for key, value in state_dict.items() if original_name(key) == "criterion.empty_weight"), None)
    if losses is not None:
        if losses.ndim != 1 or not len(losses):
            raise ValueError(f"criterion.empty_weight has shape {tuple(losses.shape)}, expected one of each class.")
        sizes["no_object_weight"] = round(float(losses[-1]), 6)
    return UniSegmentEomtConfig(**sizes, base_weights=records), weights


def _added(weights: Mapping[str, Tensor], base: str) -> dict[str, Tensor]:
    """Return weights with those of DINOv3 added."""
    from unisegment.models.eomt.backbone_weights import read_backbone  # it has the code of models: seconds

    known = {f"backbone.{name}": value for name, value in read_backbone(base).items()}
    extra = (name for name in weights if name.startswith("backbone.") and name not in known)
    for name in (*known, *extra):
        there, here = (tuple(side[name].shape) if name in side else None for side in (known, weights))
        if there != here:
            raise ValueError(f"base: {base!r} is another model: {name} is {there} there, {here} here.")
    return {name: value + known[name] if name in known else value for name, value in weights.items()}


def infer_config(weights: Mapping[str, Tensor], num_attention_heads: int | None, image_size: int) -> dict[str, Any]:
    """Return the config keys that follow from the shapes of weights under our names.

    Args:
        weights: The weights.
        num_attention_heads: As for `read_original`.
        image_size: As for `read_original`; what the table of positions says goes first.

    Raises:
        ValueError: When a weight that a size follows from is missing, or sizes contradict each other.
    """
    size = partial(size_of, weights)
    hidden_size, patch_size = size("queries.weight", 1), size("backbone.patch_proj.weight", 2)
    if num_attention_heads is None and hidden_size % _HEAD_WIDTH:
        raise ValueError(
            f"hidden_size {hidden_size} is no multiple of {_HEAD_WIDTH}, which heads have. Say num_attention_heads."
        )
    is_learned = "backbone.position_embeddings" in weights
    is_gated = f"{_LAYER}0.feed_forward.gate_proj.weight" in weights
    first = f"{_LAYER}0.feed_forward." + ("gate_proj" if is_gated else "linear1")
    if is_learned:
        rows = size("backbone.position_embeddings", 1)
        image_size = math.isqrt(rows) * patch_size
        if math.isqrt(rows) ** 2 != rows:
            raise ValueError(f"The table of positions has {rows} rows, expected those of a square of patches.")
    position_encoding = "learned" if is_learned else "rope"
    return {
        "position_encoding": position_encoding,
        "image_size": image_size,
        "patch_size": patch_size,
        "num_channels": size("backbone.patch_proj.weight", 1),
        "hidden_size": hidden_size,
        "num_hidden_layers": _count(weights, _LAYER),
        "num_attention_heads": num_attention_heads or hidden_size // _HEAD_WIDTH,
        "intermediate_size": size(f"{first}.weight"),
        "use_swiglu_ffn": is_gated,
        "num_register_tokens": weights[_REGISTERS].shape[1] if _REGISTERS in weights else 0,
        "layer_norm_eps": _NORM_EPS[position_encoding],
        **{key: f"{_LAYER}0.{name}.bias" in weights for key, name in _BIASES.items()},
        "mlp_bias": f"{first}.bias" in weights,
        "num_upscale_blocks": _count(weights, "upscale."),
        "num_blocks": size("attn_mask_probs"),
        "num_queries": size("queries.weight"),
        "num_labels": size("predictor.class_head.weight") - 1,
    }


def _count(weights: Mapping[str, Any], prefix: str) -> int:
    """Return how many layers the highest number of one asks for; missing ones are found when weights are loaded."""
    numbers = [name.removeprefix(prefix).partition(".")[0] for name in weights if name.startswith(prefix)]
    return max((int(number) + 1 for number in numbers), default=0)


def write_original(path: str | os.PathLike[str], config: UniSegmentEomtConfig, weights: Mapping[str, Tensor]) -> None:
    """Write a checkpoint as the authors' code does.

    Weights are whole. With DINOv3, their code has to be told so, by `--model.delta_weights False`. What weights do not
    tell is beside them, for `read_original`.

    Args:
        path: A `.bin`, `.pth` or `.pt` file.
        config: The model's config.
        weights: Its weights under our names.

    Raises:
        ValueError: When the authors' code has no such model, or the file no such suffix.
        WriteError: When it cannot be written; what was there before is still there.
    """
    from unisegment.models.mask_classification import class_weights  # the code of losses: it takes time

    path = Path(path)
    if path.suffix not in _ENDINGS:
        raise ValueError(f"{str(path)!r} must end with one of {', '.join(_ENDINGS)}.")
    _require_expressible(config)
    state_dict = to_original(weights, config)
    state_dict["criterion.empty_weight"] = class_weights(config)
    for name, values in (("pixel_mean", _PIXEL_MEAN), ("pixel_std", _PIXEL_STD)):
        state_dict[f"network.encoder.{name}"] = torch.tensor(values).reshape(1, -1, 1, 1)
    ordered = {name: state_dict[name].detach().cpu().contiguous() for name in sorted(state_dict)}
    records = [dict(sorted(record.items())) for record in config.base_weights or []]
    settings = {key: getattr(config, key) for key in _SETTINGS}
    with whole_file(path) as partial_file:
        torch.save({"state_dict": ordered, _RECORD: records, **settings}, partial_file)


def _require_expressible(config: UniSegmentEomtConfig) -> None:
    """Raise a ValueError when the authors' code has no such model."""
    is_learned = config.position_encoding == "learned"
    fixed: dict[str, Any] = {
        "num_channels": 3,
        "hidden_act": "gelu",
        "use_gated_mlp": False,
        "layer_norm_eps": _NORM_EPS[config.position_encoding],
        "num_upscale_blocks": max(1, config.patch_size.bit_length() - 3),
    }
    if is_learned:
        fixed |= {"key_bias": config.query_bias, "value_bias": config.query_bias, "proj_bias": True, "mlp_bias": True}
    else:
        fixed["rope_theta"] = 100.0
    for key, value in fixed.items():
        if getattr(config, key) != value:
            raise ValueError(
                f"The authors' EoMT has {key}={value!r} only here, this model has {getattr(config, key)!r}."
            )
