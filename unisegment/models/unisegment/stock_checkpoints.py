# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of transformers' Mask2Former ("stock"): read into our config and weights, and written from our model.

transformers' own class does the reading and writing of files: it knows all layouts they have had.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from transformers import Mask2FormerConfig

from unisegment.backbones.config_files import PLAIN_VIT_TYPES, backbone_config, require_inert
from unisegment.models.base import require_fixed
from unisegment.models.checkpoint_changes import require_complete, without_messages, without_table
from unisegment.models.unisegment.checkpoint_conversion import STOCK_ONLY, from_stock, to_stock
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.ops.checkpoint_files import READING_KEYS, chosen
from unisegment.ops.value_kinds import require_free
from unisegment.ops.weight_files import damage_named

# What the stock model fixes in its code.
_FIXED = {"pixel_decoder": "ms_deform_attn", "num_feature_levels": 3, "encoder_n_points": 4}
_OURS_ALONE = ("model_type", "architectures", "transformers_version", "backbone", "use_pretrained_backbone", *_FIXED)


def _without_doubt() -> AbstractContextManager[None]:
    """Keep transformers from doubting backbones that are no Swin: its Mask2Former takes them as well."""
    return without_messages("transformers.models.mask2former.configuration_mask2former", "is not a supported model")


def config_from_stock(stock: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of our config for a stock one, which may carry keys of ours from an earlier conversion."""
    return {
        "freeze_backbone_norm": False,  # transformers trains them
        **stock,
        "model_type": UniSegmentConfig.model_type,
        "architectures": None,
    }


def config_to_stock(config: UniSegmentConfig) -> Mask2FormerConfig:
    """Return the stock config for ours. Keys that the stock model does not know are kept in it, without effect.

    Raises:
        ValueError: When the stock model cannot be what the config says.
    """
    require_fixed(config, _FIXED, "Mask2Former")
    backbone_config: Any = config.backbone_config
    if backbone_config.model_type in PLAIN_VIT_TYPES:
        raise ValueError(
            f"transformers' Mask2Former has no feature pyramid for the backbone_config of a "
            f"{backbone_config.model_type!r}."
        )
    keys = {key: value for key, value in config.to_dict().items() if key not in _OURS_ALONE}
    with _without_doubt():
        return Mask2FormerConfig.from_dict(keys)


def read_stock_config(config_dict: dict[str, Any]) -> tuple[Mask2FormerConfig, UniSegmentConfig]:
    """Return the config of a stock checkpoint, as transformers' and as ours.

    Args:
        config_dict: What its config.json holds.

    Raises:
        ValueError: When a value is not what its key may be, or sizes do not fit together.
    """
    require_inert(config_dict)
    UniSegmentConfig.require_values(config_dict)
    require_free(config_dict.keys() - {"model_type"}, Mask2FormerConfig)
    if config_dict.get("backbone_config"):  # of which transformers would take any kind
        config_dict = {**config_dict, "backbone_config": backbone_config(config_dict["backbone_config"])}
    # transformers refuses 2 where it wants 2.0.
    floats = {key for key, default in vars(Mask2FormerConfig).items() if isinstance(default, float)}
    whole = {key: float(value) for key, value in config_dict.items() if key in floats and type(value) is int}
    with _without_doubt():
        stock = Mask2FormerConfig.from_dict(config_dict | whole)
    return stock, UniSegmentConfig.from_dict(config_from_stock(stock.to_dict()))


def read_stock_weights(
    name_or_path: Any, stock_config: Mask2FormerConfig, kwargs: Mapping[str, Any]
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
    from transformers import Mask2FormerForUniversalSegmentation  # here, as configs need no code of models: seconds

    with damage_named(name_or_path), without_table():
        stock_model, report = Mask2FormerForUniversalSegmentation.from_pretrained(
            name_or_path,
            config=stock_config,
            dtype="auto",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the report has them
            **chosen(kwargs, READING_KEYS),
        )
    missing = sorted(key for key in report["missing_keys"] if not STOCK_ONLY.fullmatch(key))
    unexpected = sorted(key for key in report["unexpected_keys"] if not key.endswith("relative_position_index"))
    require_complete({**report, "missing_keys": missing, "unexpected_keys": unexpected}, name_or_path)
    return from_stock(stock_model.state_dict())


def stock_twin(config: UniSegmentConfig, weights: Mapping[str, Tensor]) -> Any:
    """Return transformers' own model with our weights (the same memory, where nothing has to be joined).

    Args:
        config: Our config.
        weights: Our weights.

    Raises:
        ValueError: When the stock model cannot be what ours is.
    """
    from transformers import Mask2FormerForUniversalSegmentation  # see above

    from unisegment.models.mask_classification import class_weights

    stock_config = config_to_stock(config)
    with torch.device("meta"):
        stock = Mask2FormerForUniversalSegmentation(stock_config)
    stock_weights = to_stock(weights)
    for name, tensor in stock.state_dict().items():
        if name == "criterion.empty_weight":
            stock_weights[name] = class_weights(config)
        elif name not in stock_weights:  # batch counters, and norms that the stock model has and does not use
            is_scale = name.endswith("norm.weight")
            stock_weights[name] = torch.full(tensor.shape, int(is_scale), dtype=tensor.dtype)
    stock.load_state_dict(stock_weights, assign=True)
    return stock
