# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of transformers' Eomt and EomtDinov3 ("stock"): read into our config and weights, written from our model.

Their files have the names of the model in memory, and are read without it: transformers itself opens no gated Eomt that
an older release has written.
"""

import copy
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EomtConfig, EomtDinov3Config, PreTrainedConfig

from unisegment.backbones.config_files import require_inert
from unisegment.models.base import require_fixed
from unisegment.models.eomt.checkpoint_conversion import from_stock, to_stock
from unisegment.models.eomt.configuration_eomt import KINDS, UniSegmentEomtConfig, feed_forward_width
from unisegment.ops.checkpoint_files import READING_KEYS, chosen, weight_files
from unisegment.ops.value_kinds import NOTHING, Kind, require, require_free
from unisegment.ops.weight_files import damage_named, read_weight_file, weights_in

_OURS_ALONE = frozenset(
    ("model_type", "architectures", "transformers_version", "backbone", "use_pretrained_backbone", "position_encoding")
)
# Keys that one of the stock models has, and the other fixes in its code.
_LEARNED_KEYS = frozenset(("mlp_ratio", "use_swiglu_ffn"))
_BIASES = ("query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias")
_AUGMENTATIONS = ("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale")
_ROPE_KEYS = frozenset(("intermediate_size", "use_gated_mlp", "rope_theta", *_BIASES, *_AUGMENTATIONS))
_ROTATION = Kind(
    'a mapping with rope_theta, a number above 0, and rope_type "default"',
    lambda value: (
        isinstance(value, Mapping)
        and value.get("rope_type", "default") == "default"
        and KINDS["rope_theta"].fits(value.get("rope_theta"))
    ),
)


def read_eomt_config(config_dict: dict[str, Any]) -> tuple[EomtConfig, UniSegmentEomtConfig]:
    """Return the config of a stock Eomt, as transformers' and as ours.

    Args:
        config_dict: What its config.json holds.

    Raises:
        ValueError: When a value is not what its key may be, or sizes do not fit together.
    """
    theirs = _read_config(config_dict, EomtConfig)
    fixed = {"position_encoding": "learned", "intermediate_size": None, "use_gated_mlp": False}
    return theirs, _ours(theirs.to_dict(), {**fixed, **dict.fromkeys(_BIASES, True)})


def read_eomt_dinov3_config(config_dict: dict[str, Any]) -> tuple[EomtDinov3Config, UniSegmentEomtConfig]:
    """Return the config of a stock EomtDinov3, as transformers' and as ours; see `read_eomt_config`."""
    require("rope_theta", config_dict.get("rope_theta"), KINDS["rope_theta"])
    theirs = _read_config(config_dict, EomtDinov3Config)
    keys = theirs.to_dict()
    rotation = keys.pop("rope_parameters")
    fixed = {"position_encoding": "rope", "use_swiglu_ffn": False, "rope_theta": rotation["rope_theta"]}
    return theirs, _ours(keys, fixed)


def _read_config(config_dict: dict[str, Any], kind: type[PreTrainedConfig]) -> Any:
    config_dict = copy.deepcopy(config_dict)  # transformers completes what stands in it
    require_inert(config_dict)
    require("rope_parameters", config_dict.get("rope_parameters"), _ROTATION | NOTHING)
    UniSegmentEomtConfig.require_values(config_dict)
    require_free(config_dict.keys() - {"model_type"}, kind)
    null = next((key for key in KINDS if hasattr(kind, key) and key in config_dict and config_dict[key] is None), None)
    if null is not None and getattr(kind, null) is not None:
        raise ValueError(f"{null}: None, expected {KINDS[null].expected.removesuffix(' or null')}.")
    return _made(kind, config_dict)


def _made(kind: type[PreTrainedConfig], keys: Mapping[str, Any]) -> Any:
    """Return a config of transformers, which wants 2.0 rather than 2 where a number may have a fraction."""
    types = {item.name: str(item.type) for item in fields(kind)}
    floats = {key for key, name in types.items() if "float" in name and "int" not in name}
    try:
        return kind.from_dict(
            {key: float(value) if key in floats and type(value) is int else value for key, value in keys.items()}
        )
    except Exception as error:  # in several lines, of kinds of its own
        raise ValueError(" ".join(str(error).split())[:300]) from error


def _ours(keys: Mapping[str, Any], fixed: Mapping[str, Any]) -> UniSegmentEomtConfig:
    own = {"model_type": UniSegmentEomtConfig.model_type, "architectures": None}
    return UniSegmentEomtConfig.from_dict({**keys, **fixed, **own})


def read_stock_weights(
    name_or_path: Any, stock_config: PreTrainedConfig, kwargs: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Read the weights of a stock checkpoint.

    Args:
        name_or_path: Hub id or local folder.
        stock_config: Its config.
        kwargs: Keywords of `from_pretrained`.

    Returns:
        The weights under our names.

    Raises:
        ValueError: When the checkpoint does not hold what its config promises.
    """
    keys = stock_config.to_dict()
    read_config = read_eomt_config if stock_config.model_type == EomtConfig.model_type else read_eomt_dinov3_config
    reading = {key: value for key, value in chosen(kwargs, READING_KEYS).items() if key != "weights_only"}
    weights: dict[str, Tensor] = {}
    with damage_named(name_or_path):
        for file in weight_files(name_or_path, file_name=keys.get("transformers_weights"), **reading):
            weights |= weights_in(read_weight_file(file), file)
    return from_stock(weights, read_config(keys)[1])


def config_to_eomt(config: UniSegmentEomtConfig) -> EomtConfig:
    """Return the config of a stock Eomt for ours. Keys that it does not know are kept in it, without effect.

    Raises:
        ValueError: When the stock model cannot be what the config says.
    """
    fixed = {"position_encoding": "learned", "use_gated_mlp": False, **dict.fromkeys(_BIASES, True)}
    require_fixed(config, fixed, "EoMT")
    width = config.feed_forward_dim

    def fits(ratio: Any) -> bool:
        return ratio % 1 == 0 and feed_forward_width(config.hidden_size, ratio, config.use_swiglu_ffn) == width

    ratio = next(filter(fits, [config.mlp_ratio, *range(1, 1001)]), None)
    if ratio is None:
        raise ValueError(
            f"transformers' EoMT has a whole mlp_ratio only, this model has feed-forward networks of {width} channels "
            f"for a hidden_size of {config.hidden_size}."
        )
    return _theirs(config, EomtConfig, _ROPE_KEYS, {"mlp_ratio": int(ratio)})


def config_to_eomt_dinov3(config: UniSegmentEomtConfig) -> EomtDinov3Config:
    """Return the config of a stock EomtDinov3 for ours, see `config_to_eomt`."""
    require_fixed(config, {"position_encoding": "rope"}, "EoMT-DINOv3")
    if config.feed_forward_activation != config.hidden_act:
        raise ValueError(
            f"transformers' EoMT-DINOv3 has one activation for all parts, this model has hidden_act="
            f"{config.hidden_act!r} and, with use_swiglu_ffn, silu."
        )
    own = {
        "intermediate_size": config.feed_forward_dim,
        "use_gated_mlp": config.is_gated,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
    }
    return _theirs(config, EomtDinov3Config, _LEARNED_KEYS | {"rope_theta"}, own)


def _theirs(
    config: UniSegmentEomtConfig, kind: type[PreTrainedConfig], other: frozenset[str], own: Mapping[str, Any]
) -> Any:
    """Return their config, without the keys of the other stock model."""
    keys = {key: value for key, value in config.to_dict().items() if key not in _OURS_ALONE | other}
    return _made(kind, {**keys, **own})


def eomt_twin(config: UniSegmentEomtConfig, weights: Mapping[str, Tensor]) -> Any:
    """Return transformers' own Eomt with our weights (the same memory, where nothing has to be joined).

    Args:
        config: Our config.
        weights: Our weights.

    Raises:
        ValueError: When the stock model cannot be what ours is.
    """
    from transformers import EomtForUniversalSegmentation  # here, as configs need no code of models: seconds

    return _twin(EomtForUniversalSegmentation, config_to_eomt(config), config, weights)


def eomt_dinov3_twin(config: UniSegmentEomtConfig, weights: Mapping[str, Tensor]) -> Any:
    """Return transformers' own EomtDinov3 with our weights; see `eomt_twin`."""
    from transformers import EomtDinov3ForUniversalSegmentation  # see above

    return _twin(EomtDinov3ForUniversalSegmentation, config_to_eomt_dinov3(config), config, weights)


def _twin(
    model_class: Any, stock_config: PreTrainedConfig, config: UniSegmentEomtConfig, weights: Mapping[str, Tensor]
) -> nn.Module:
    from unisegment.models.mask_classification import class_weights  # the code of losses: it takes time

    with torch.device("meta"):
        stock = model_class(stock_config)
    stock_weights = to_stock(weights, config, of=stock.state_dict())
    stock_weights["criterion.empty_weight"] = class_weights(config)
    stock.load_state_dict(stock_weights, assign=True)
    return stock
