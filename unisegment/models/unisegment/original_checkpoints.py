# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the original code (facebookresearch/Mask2Former, on detectron2): read and written.

The files hold weights only. Sizes follow from their shapes; what does not follow is an argument.
"""

import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from unisegment.backbones import resnet_weights, swin_weights
from unisegment.backbones.weight_fit import size_of
from unisegment.files import whole_file
from unisegment.models import base_weights
from unisegment.models.unisegment.checkpoint_conversion import from_original, to_original
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.ops.weight_files import weights_in

ORIGINAL_LICENSE = "cc-by-nc-4.0"
"""Licence of all weights that were released with the original code (its MODEL_ZOO.md)."""
_BODY, _PIXEL, _QUERY = "backbone.body.", "pixel_decoder.", "transformer_decoder."
_RECORD = "base_weights"


def read_original(
    content: Mapping[str, Any],
    path: str | os.PathLike[str],
    license: str = ORIGINAL_LICENSE,
    num_attention_heads: int | None = None,
    encoder_n_points: int = 4,
) -> tuple[UniSegmentConfig, dict[str, Tensor]]:
    """Return config and weights, under our names, of an original checkpoint.

    Args:
        content: What its file holds.
        path: The file.
        license: Licence of the weights, unless the file itself has a record of it.
        num_attention_heads: See `infer_config`.
        encoder_n_points: See `infer_config`.

    Raises:
        ValueError: When this is no checkpoint of the original Mask2Former, or its weights contradict each other.
    """
    state_dict = weights_in(content, path)
    weights = from_original(state_dict)
    sizes = infer_config(weights, num_attention_heads, encoder_n_points)
    _check_windows(state_dict, sizes["backbone_config"])
    losses = next((value for key, value in state_dict.items() if key.endswith("criterion.empty_weight")), None)
    if losses is not None:
        if losses.ndim != 1 or not len(losses):
            raise ValueError(f"criterion.empty_weight has shape {tuple(losses.shape)}, expected one of each class.")
        sizes["no_object_weight"] = round(float(losses[-1]), 6)
    records = content.get(_RECORD) or [base_weights.record(path, {}, license)]
    return UniSegmentConfig(**sizes, base_weights=records), weights


def infer_config(
    weights: Mapping[str, Tensor], num_attention_heads: int | None, encoder_n_points: int
) -> dict[str, Any]:
    """Return the config keys that follow from the shapes of original weights under our names.

    Args:
        weights: The weights.
        num_attention_heads: Heads of both decoders. None takes what follows from `encoder_n_points`, or the paper's 8
            where there is no deformable attention.
        encoder_n_points: Points of the deformable attention, without effect when the heads are given.

    Raises:
        ValueError: When a weight that a size follows from is missing, or sizes contradict each other.
    """
    size = partial(size_of, weights)
    body = {name.removeprefix(_BODY): value for name, value in weights.items() if name.startswith(_BODY)}
    is_swin = any(name.startswith("swin.") for name in body)
    config = {
        "backbone_config": (swin_weights if is_swin else resnet_weights).infer_config(body),
        "freeze_backbone_norm": not any(name.endswith("num_batches_tracked") for name in body),
        "feature_size": size(_PIXEL + "output_convs.0.conv.weight"),
        "mask_feature_size": size(_PIXEL + "mask_proj.weight"),
        "encoder_layers": _count(weights, _PIXEL + "layers."),
        "hidden_dim": size(_QUERY + "query_features.weight", 1),
        "num_queries": size(_QUERY + "query_features.weight"),
        "num_labels": size(_QUERY + "predictor.class_head.weight") - 1,
        "decoder_layers": _count(weights, _QUERY + "layers.") + 1,
        "dim_feedforward": size(_QUERY + "layers.0.feed_forward.linear1.weight"),
        "enforce_input_projection": _QUERY + "input_proj.0.weight" in weights,
        "num_attention_heads": num_attention_heads or 8,
    }
    if config["encoder_layers"]:
        config["encoder_feedforward_dim"] = size(_PIXEL + "layers.0.feed_forward.linear1.weight")
    if _PIXEL + "level_embed" not in weights:
        has_encoder = _PIXEL + "input_proj.weight" in weights
        return config | {"pixel_decoder": "transformer_fpn" if has_encoder else "fpn"}
    # Each head has a weight for each point on each level.
    rows, levels = size(_PIXEL + "layers.0.self_attn.attention_weights.weight"), size(_PIXEL + "level_embed")
    heads = num_attention_heads or rows // (levels * encoder_n_points)
    points = rows // (levels * max(heads, 1))
    if heads * points * levels != rows:
        raise ValueError(
            f"The deformable attention has {rows} weights for {levels} levels, which fits no number of heads with "
            f"{encoder_n_points} points. Say num_attention_heads or encoder_n_points."
        )
    return config | {"num_attention_heads": heads, "encoder_n_points": points, "num_feature_levels": levels}


def _check_windows(state_dict: Mapping[str, Tensor], backbone_config: Any) -> None:
    """Compare the windows of a Swin's index buffers, which hold nothing else of use, with those of its tables."""
    for name, index in state_dict.items():
        if name.endswith("relative_position_index") and tuple(index.shape) != (backbone_config.window_size**2,) * 2:
            raise ValueError(
                f"{name!r} is {tuple(index.shape)}, but the bias tables are those of windows of "
                f"{backbone_config.window_size} by {backbone_config.window_size} patches."
            )


def _count(weights: Mapping[str, Any], prefix: str) -> int:
    """Return how many layers there are, numbered from 0 without a gap.

    Raises:
        ValueError: When one is missing below another.
    """
    found = {match[1] for name in weights if (match := re.match(rf"{re.escape(prefix)}(\d+)\.", name))}
    missing = next((number for number in range(len(found)) if str(number) not in found), None)
    if missing is not None:
        strange = min(found - {str(number) for number in range(len(found))})
        raise ValueError(f"There are weights of {prefix}{strange[:20]}, but none of {prefix}{missing}.")
    return len(found)


def write_original(path: str | os.PathLike[str], config: UniSegmentConfig, weights: Mapping[str, Tensor]) -> None:
    """Write a checkpoint as the original code does.

    Args:
        path: A `.pkl` file as in the original's model zoo, or a `.pth` or `.safetensors` file.
        config: The model's config.
        weights: Its weights under our names.

    Raises:
        ValueError: When the original code has no such model, or the file no such suffix or numbers.
        WriteError: When it cannot be written; what was there before is still there.
    """
    from unisegment.models.mask_classification import class_weights  # the code of losses: it takes time

    path = Path(path)
    if path.suffix not in _WRITERS:
        raise ValueError(f"{str(path)!r} must end with one of {', '.join(_WRITERS)}.")
    backbone_config: Any = config.backbone_config
    state_dict = to_original(weights, config.pixel_decoder, backbone_config.model_type)
    if backbone_config.model_type == "swin":
        index = swin_weights.relative_position_index(backbone_config.window_size)
        tables = [name for name in state_dict if name.endswith("relative_position_bias_table")]
        state_dict |= {name.replace("bias_table", "index"): index.clone() for name in tables}
    state_dict["criterion.empty_weight"] = class_weights(config)
    ordered = {name: state_dict[name].detach().cpu().contiguous() for name in sorted(state_dict)}
    with whole_file(path) as partial_file:
        records = [dict(sorted(record.items())) for record in config.base_weights or []]
        _WRITERS[path.suffix](partial_file, ordered, records)


def _versioned(state_dict: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Add the module versions without which the original code takes names for those of an older release."""
    versioned = OrderedDict(state_dict)
    versioned._metadata = {  # type: ignore[attr-defined]
        "": {"version": 1},
        "sem_seg_head": {"version": 2},
        "sem_seg_head.predictor": {"version": 2},
    }
    return versioned


class _PortablePickler(pickle.Pickler):
    """Names nothing of numpy but what every release of it has in the same place."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return np.ndarray, (value.shape, value.dtype, bytearray(value.tobytes()))
        return NotImplemented


def _write_pickle(path: Path, state_dict: Mapping[str, Tensor], records: list[dict[str, str]]) -> None:
    if any(value.dtype is torch.bfloat16 for value in state_dict.values()):
        raise ValueError("A .pkl file cannot hold bfloat16: write a .pth or .safetensors file, or model.float() first.")
    arrays = _versioned({name: value.numpy() for name, value in state_dict.items()})
    content = {"model": arrays, "__author__": "unisegment", _RECORD: records}
    with path.open("wb") as file:
        _PortablePickler(file, protocol=4).dump(content)


def _write_torch(path: Path, state_dict: Mapping[str, Tensor], records: list[dict[str, str]]) -> None:
    torch.save({"model": _versioned(state_dict), _RECORD: records}, path)


def _write_safetensors(path: Path, state_dict: Mapping[str, Tensor], records: list[dict[str, str]]) -> None:
    save_file(dict(state_dict), path)


_WRITERS = {".pkl": _write_pickle, ".pth": _write_torch, ".safetensors": _write_safetensors}
