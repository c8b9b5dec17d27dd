# SPDX-License-Identifier: Apache-2.0
"""Weights of transformers' Mask2Former under our names, and back.

The stock names are those of the model in memory. Files have had three layouts over the years; transformers' own class
reads them all, so it does the reading here.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, cat
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, PreTrainedConfig

from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig

_PIXEL, _QUERY = "model.pixel_level_module", "model.transformer_module"
_DECODER, _LAYER = f"{_PIXEL}.decoder", f"{_QUERY}.decoder.layers.{{i}}"
_OWN_LAYER = "transformer_decoder.layers.{i}"

# Ours, theirs. `{i}` stands for a number; what follows a listed name (.weight, .bias, …) stays.
STOCK_NAMES: tuple[tuple[str, str], ...] = (
    ("backbone.body", f"{_PIXEL}.encoder"),
    ("pixel_decoder.level_embed", f"{_DECODER}.level_embed"),
    ("pixel_decoder.input_proj.{i}.conv", f"{_DECODER}.input_projections.{{i}}.0"),
    ("pixel_decoder.input_proj.{i}.norm", f"{_DECODER}.input_projections.{{i}}.1"),
    ("pixel_decoder.layers.{i}.self_attn", f"{_DECODER}.encoder.layers.{{i}}.self_attn"),
    ("pixel_decoder.layers.{i}.self_attn_norm", f"{_DECODER}.encoder.layers.{{i}}.self_attn_layer_norm"),
    ("pixel_decoder.layers.{i}.feed_forward.linear1", f"{_DECODER}.encoder.layers.{{i}}.fc1"),
    ("pixel_decoder.layers.{i}.feed_forward.linear2", f"{_DECODER}.encoder.layers.{{i}}.fc2"),
    ("pixel_decoder.layers.{i}.feed_forward_norm", f"{_DECODER}.encoder.layers.{{i}}.final_layer_norm"),
    ("pixel_decoder.lateral_convs.0.conv", f"{_DECODER}.adapter_1.0"),
    ("pixel_decoder.lateral_convs.0.norm", f"{_DECODER}.adapter_1.1"),
    ("pixel_decoder.output_convs.0.conv", f"{_DECODER}.layer_1.0"),
    ("pixel_decoder.output_convs.0.norm", f"{_DECODER}.layer_1.1"),
    ("pixel_decoder.mask_proj", f"{_DECODER}.mask_projection"),
    ("transformer_decoder.query_pos", f"{_QUERY}.queries_embedder"),
    ("transformer_decoder.query_features", f"{_QUERY}.queries_features"),
    ("transformer_decoder.level_embed", f"{_QUERY}.level_embed"),
    ("transformer_decoder.input_proj.{i}", f"{_QUERY}.input_projections.{{i}}"),
    (f"{_OWN_LAYER}.cross_attn", f"{_LAYER}.cross_attn"),
    (f"{_OWN_LAYER}.cross_attn_norm", f"{_LAYER}.cross_attn_layer_norm"),
    (f"{_OWN_LAYER}.self_attn", f"{_LAYER}.self_attn"),
    (f"{_OWN_LAYER}.self_attn_norm", f"{_LAYER}.self_attn_layer_norm"),
    (f"{_OWN_LAYER}.feed_forward.linear1", f"{_LAYER}.fc1"),
    (f"{_OWN_LAYER}.feed_forward.linear2", f"{_LAYER}.fc2"),
    (f"{_OWN_LAYER}.feed_forward_norm", f"{_LAYER}.final_layer_norm"),
    ("transformer_decoder.predictor.norm", f"{_QUERY}.decoder.layernorm"),
    ("transformer_decoder.predictor.class_head", "class_predictor"),
    ("transformer_decoder.predictor.mask_head.0", f"{_QUERY}.decoder.mask_predictor.mask_embedder.0.0"),
    ("transformer_decoder.predictor.mask_head.2", f"{_QUERY}.decoder.mask_predictor.mask_embedder.1.0"),
    ("transformer_decoder.predictor.mask_head.4", f"{_QUERY}.decoder.mask_predictor.mask_embedder.2.0"),
)
# Theirs alone: the class weights of the loss, and Swin's final norm, which nothing runs through.
STOCK_ONLY = re.compile(r"criterion\.empty_weight|model\.pixel_level_module\.encoder\.swin\.layernorm\.(weight|bias)")
# Their cross-attention keeps queries, keys and values in one tensor.
_FUSED = re.compile(r"(.+\.cross_attn\.)in_proj_(weight|bias)")
_SPLIT = re.compile(r"(.+\.cross_attn\.)q_proj\.(weight|bias)")
_HUB_KEYS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")
_READING_KEYS = (*_HUB_KEYS, "variant", "use_safetensors", "weights_only")


def from_stock(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return stock weights under our names.

    Raises:
        ValueError: For a name that no Mask2Former has.
    """
    renamed: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        if STOCK_ONLY.fullmatch(key):
            continue
        fused = _FUSED.fullmatch(key)
        if fused is None:
            renamed[_rename(key, _TO_OWN)] = tensor
            continue
        for part, piece in zip("qkv", tensor.chunk(3), strict=True):
            renamed[_rename(f"{fused[1]}{part}_proj.{fused[2]}", _TO_OWN)] = piece.clone()
    return renamed


def to_stock(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our weights under the stock names; the exact reverse of `from_stock`.

    Raises:
        ValueError: For a name that the stock model has no place for.
    """
    renamed: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        stock_key = _rename(key, _TO_STOCK)
        split = _SPLIT.fullmatch(stock_key)
        if split is not None:
            parts = [state_dict[key.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            renamed[f"{split[1]}in_proj_{split[2]}"] = cat(parts)
        elif ".cross_attn.k_proj." not in stock_key and ".cross_attn.v_proj." not in stock_key:
            renamed[stock_key] = tensor
    return renamed


def config_from_stock(stock: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of our config for a stock one."""
    return {
        **stock,
        "model_type": UniSegmentConfig.model_type,
        "architectures": None,
        "freeze_backbone_norm": False,  # transformers trains them
        "use_pretrained_backbone": False,  # the checkpoint has all weights
    }


def read_if_stock(
    name_or_path: Any, kwargs: dict[str, Any]
) -> tuple[UniSegmentConfig | None, dict[str, Tensor] | None, dict[str, Any]]:
    """Look at a checkpoint's config, and read config and weights if it is stock Mask2Former.

    Args:
        name_or_path: Hub id or local folder.
        kwargs: Keywords of `from_pretrained`.

    Returns:
        Config and weights under our names (None if the checkpoint is ours already), and the keywords still to be used.

    Raises:
        ValueError: When the checkpoint is of another kind of model, or does not hold what its config promises.
    """
    config_dict, _ = PreTrainedConfig.get_config_dict(
        name_or_path, **{key: kwargs[key] for key in _HUB_KEYS if key in kwargs}
    )
    model_type = config_dict.get("model_type")
    if model_type == UniSegmentConfig.model_type:
        return None, None, kwargs
    if model_type != Mask2FormerConfig.model_type:
        raise ValueError(
            f"{str(name_or_path)!r} is a checkpoint of model_type {model_type!r}; UniSegment reads 'unisegment' and "
            "transformers' 'mask2former'."
        )
    stock_config = Mask2FormerConfig.from_dict(config_dict)
    reading = {key: kwargs[key] for key in _READING_KEYS if key in kwargs}
    stock_model, report = Mask2FormerForUniversalSegmentation.from_pretrained(
        name_or_path, config=stock_config, dtype="auto", output_loading_info=True, **reading
    )
    require_complete(report)
    own_config, rest = UniSegmentConfig.from_dict(
        config_from_stock(stock_config.to_dict()),
        return_unused_kwargs=True,
        **{key: value for key, value in kwargs.items() if key not in _READING_KEYS},
    )
    own_config._name_or_path = str(name_or_path)
    return own_config, from_stock(stock_model.state_dict()), rest


def require_complete(report: Mapping[str, Iterable[Any]]) -> None:
    """Raise a ValueError when weights were missing or left over on loading."""
    missing = sorted(key for key in report["missing_keys"] if not STOCK_ONLY.fullmatch(key))
    unexpected = sorted(key for key in report["unexpected_keys"] if not key.endswith("relative_position_index"))
    if missing or unexpected:
        raise ValueError(
            f"The weights do not fit the config: {len(missing)} are missing (first: {missing[:3]}), {len(unexpected)} "
            f"are left over (first: {unexpected[:3]}). If that is intended, pass ignore_mismatched_sizes=True."
        )


def _rules(pairs: Iterable[tuple[str, str]]) -> list[tuple[re.Pattern[str], str]]:
    """Compile (from, to) templates; the number and what follows the name are carried over."""
    return [
        (re.compile(re.escape(source).replace(r"\{i\}", r"(?P<i>\d+)") + r"(?P<rest>\..+|$)"), target + "{rest}")
        for source, target in pairs
    ]


def _rename(key: str, rules: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, template in rules:
        match = pattern.fullmatch(key)
        if match is not None:
            return template.format(**match.groupdict())
    raise ValueError(f"{key!r} is not a weight of Mask2Former.")


_TO_OWN = _rules((stock, own) for own, stock in STOCK_NAMES)
_TO_STOCK = _rules(STOCK_NAMES)
