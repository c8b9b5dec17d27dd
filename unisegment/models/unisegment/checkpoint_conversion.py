# SPDX-License-Identifier: Apache-2.0
"""Weights under three sets of names: ours, those of transformers' Mask2Former ("stock"), those of the original code.

Every table is one to one, so weights go in and out without a change. Files are read and written in
`stock_checkpoints.py` and `original_checkpoints.py`.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unisegment.backbones import resnet_weights, swin_weights
from unisegment.ops.weight_names import WeightNames

_OWN_LAYER = "transformer_decoder.layers.{i}"
_PIXEL, _QUERY = "model.pixel_level_module", "model.transformer_module"
_STOCK_PIXEL_LAYER, _STOCK_LAYER = f"{_PIXEL}.decoder.encoder.layers.{{i}}", f"{_QUERY}.decoder.layers.{{i}}"

# The stock names are those of the model in memory. Files have had three layouts over the years; transformers' own class
# reads and writes them.
STOCK_NAMES = WeightNames(
    [
        ("backbone.body", f"{_PIXEL}.encoder"),
        ("pixel_decoder.level_embed", f"{_PIXEL}.decoder.level_embed"),
        ("pixel_decoder.input_proj.{i}.conv", f"{_PIXEL}.decoder.input_projections.{{i}}.0"),
        ("pixel_decoder.input_proj.{i}.norm", f"{_PIXEL}.decoder.input_projections.{{i}}.1"),
        ("pixel_decoder.layers.{i}.self_attn", f"{_STOCK_PIXEL_LAYER}.self_attn"),
        ("pixel_decoder.layers.{i}.self_attn_norm", f"{_STOCK_PIXEL_LAYER}.self_attn_layer_norm"),
        ("pixel_decoder.layers.{i}.feed_forward.linear1", f"{_STOCK_PIXEL_LAYER}.fc1"),
        ("pixel_decoder.layers.{i}.feed_forward.linear2", f"{_STOCK_PIXEL_LAYER}.fc2"),
        ("pixel_decoder.layers.{i}.feed_forward_norm", f"{_STOCK_PIXEL_LAYER}.final_layer_norm"),
        ("pixel_decoder.lateral_convs.0.conv", f"{_PIXEL}.decoder.adapter_1.0"),
        ("pixel_decoder.lateral_convs.0.norm", f"{_PIXEL}.decoder.adapter_1.1"),
        ("pixel_decoder.output_convs.0.conv", f"{_PIXEL}.decoder.layer_1.0"),
        ("pixel_decoder.output_convs.0.norm", f"{_PIXEL}.decoder.layer_1.1"),
        ("pixel_decoder.mask_proj", f"{_PIXEL}.decoder.mask_projection"),
        ("transformer_decoder.query_pos", f"{_QUERY}.queries_embedder"),
        ("transformer_decoder.query_features", f"{_QUERY}.queries_features"),
        ("transformer_decoder.level_embed", f"{_QUERY}.level_embed"),
        ("transformer_decoder.input_proj.{i}", f"{_QUERY}.input_projections.{{i}}"),
        (f"{_OWN_LAYER}.cross_attn.out_proj", f"{_STOCK_LAYER}.cross_attn.out_proj"),
        (f"{_OWN_LAYER}.cross_attn_norm", f"{_STOCK_LAYER}.cross_attn_layer_norm"),
        (f"{_OWN_LAYER}.self_attn", f"{_STOCK_LAYER}.self_attn"),
        (f"{_OWN_LAYER}.self_attn_norm", f"{_STOCK_LAYER}.self_attn_layer_norm"),
        (f"{_OWN_LAYER}.feed_forward.linear1", f"{_STOCK_LAYER}.fc1"),
        (f"{_OWN_LAYER}.feed_forward.linear2", f"{_STOCK_LAYER}.fc2"),
        (f"{_OWN_LAYER}.feed_forward_norm", f"{_STOCK_LAYER}.final_layer_norm"),
        ("transformer_decoder.predictor.norm", f"{_QUERY}.decoder.layernorm"),
        ("transformer_decoder.predictor.class_head", "class_predictor"),
        ("transformer_decoder.predictor.mask_head.0", f"{_QUERY}.decoder.mask_predictor.mask_embedder.0.0"),
        ("transformer_decoder.predictor.mask_head.2", f"{_QUERY}.decoder.mask_predictor.mask_embedder.1.0"),
        ("transformer_decoder.predictor.mask_head.4", f"{_QUERY}.decoder.mask_predictor.mask_embedder.2.0"),
    ],
    fused=[(f"{_OWN_LAYER}.cross_attn.{{part}}_proj.{{leaf}}", f"{_STOCK_LAYER}.cross_attn.in_proj_{{leaf}}")],
    kind="The Mask2Former of transformers",
)
# Theirs alone: the class weights of the loss, and Swin's final norm, which nothing runs through.
STOCK_ONLY = re.compile(r"criterion\.empty_weight|model\.pixel_level_module\.encoder\.swin\.layernorm\.(weight|bias)")

_HEAD, _PREDICTOR = "sem_seg_head.pixel_decoder", "sem_seg_head.predictor"
_ENCODER_LAYER = f"{_HEAD}.transformer.encoder.layers.{{i}}"
_CROSS = f"{_PREDICTOR}.transformer_cross_attention_layers.{{i}}"
_SELF = f"{_PREDICTOR}.transformer_self_attention_layers.{{i}}"
_FEED_FORWARD = f"{_PREDICTOR}.transformer_ffn_layers.{{i}}"

_TRANSFORMER_DECODER = [
    ("transformer_decoder.query_features.weight", f"{_PREDICTOR}.query_feat.weight"),
    ("transformer_decoder.query_pos", f"{_PREDICTOR}.query_embed"),
    ("transformer_decoder.level_embed", f"{_PREDICTOR}.level_embed"),
    ("transformer_decoder.input_proj.{i}", f"{_PREDICTOR}.input_proj.{{i}}"),
    (f"{_OWN_LAYER}.cross_attn.out_proj", f"{_CROSS}.multihead_attn.out_proj"),
    (f"{_OWN_LAYER}.cross_attn_norm", f"{_CROSS}.norm"),
    (f"{_OWN_LAYER}.self_attn.out_proj", f"{_SELF}.self_attn.out_proj"),
    (f"{_OWN_LAYER}.self_attn_norm", f"{_SELF}.norm"),
    (f"{_OWN_LAYER}.feed_forward.linear1", f"{_FEED_FORWARD}.linear1"),
    (f"{_OWN_LAYER}.feed_forward.linear2", f"{_FEED_FORWARD}.linear2"),
    (f"{_OWN_LAYER}.feed_forward_norm", f"{_FEED_FORWARD}.norm"),
    ("transformer_decoder.predictor.norm", f"{_PREDICTOR}.decoder_norm"),
    ("transformer_decoder.predictor.class_head", f"{_PREDICTOR}.class_embed"),
    ("transformer_decoder.predictor.mask_head.0", f"{_PREDICTOR}.mask_embed.layers.0"),
    ("transformer_decoder.predictor.mask_head.2", f"{_PREDICTOR}.mask_embed.layers.1"),
    ("transformer_decoder.predictor.mask_head.4", f"{_PREDICTOR}.mask_embed.layers.2"),
]
_TRANSFORMER_DECODER_FUSED = [
    (f"{_OWN_LAYER}.cross_attn.{{part}}_proj.{{leaf}}", f"{_CROSS}.multihead_attn.in_proj_{{leaf}}"),
    (f"{_OWN_LAYER}.self_attn.{{part}}_proj.{{leaf}}", f"{_SELF}.self_attn.in_proj_{{leaf}}"),
]


def _conv_norm(ours: str, theirs: str) -> list[tuple[str, str]]:
    return [(f"{ours}.conv.weight", f"{theirs}.weight"), (f"{ours}.norm", f"{theirs}.norm")]


def _feature_pyramid(num_levels: int, num_laterals: int) -> list[tuple[str, str]]:
    """Theirs count from fine to coarse and from 1, ours from coarse to fine and from 0."""
    pairs = [("pixel_decoder.mask_proj", f"{_HEAD}.mask_features")]
    for index in range(num_levels):
        pairs += _conv_norm(f"pixel_decoder.output_convs.{index}", f"{_HEAD}.layer_{num_levels - index}")
    for index in range(num_laterals):
        pairs += _conv_norm(f"pixel_decoder.lateral_convs.{index}", f"{_HEAD}.adapter_{num_laterals - index}")
    return pairs


_ENCODER_LAYERS = [
    ("pixel_decoder.layers.{i}.self_attn_norm", f"{_ENCODER_LAYER}.norm1"),
    ("pixel_decoder.layers.{i}.feed_forward.linear1", f"{_ENCODER_LAYER}.linear1"),
    ("pixel_decoder.layers.{i}.feed_forward.linear2", f"{_ENCODER_LAYER}.linear2"),
    ("pixel_decoder.layers.{i}.feed_forward_norm", f"{_ENCODER_LAYER}.norm2"),
]
_MS_DEFORM_ATTN = [
    *_feature_pyramid(1, 1),
    ("pixel_decoder.input_proj.{i}.conv", f"{_HEAD}.input_proj.{{i}}.0"),
    ("pixel_decoder.input_proj.{i}.norm", f"{_HEAD}.input_proj.{{i}}.1"),
    ("pixel_decoder.level_embed", f"{_HEAD}.transformer.level_embed"),
    *_ENCODER_LAYERS,
    ("pixel_decoder.layers.{i}.self_attn", f"{_ENCODER_LAYER}.self_attn"),
]
_TRANSFORMER_FPN = [
    *_feature_pyramid(4, 3),
    ("pixel_decoder.input_proj", f"{_HEAD}.input_proj"),
    *_ENCODER_LAYERS,
    ("pixel_decoder.layers.{i}.self_attn.out_proj", f"{_ENCODER_LAYER}.self_attn.out_proj"),
    ("pixel_decoder.norm", f"{_HEAD}.transformer.encoder.norm"),
]
_TRANSFORMER_FPN_FUSED = [
    ("pixel_decoder.layers.{i}.self_attn.{part}_proj.{leaf}", f"{_ENCODER_LAYER}.self_attn.in_proj_{{leaf}}")
]


def _original(pixel_decoder: list[tuple[str, str]], fused: list[tuple[str, str]], backbone: WeightNames) -> WeightNames:
    def prefixed(pairs: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
        return [(f"backbone.body.{ours}", f"backbone.{theirs}") for ours, theirs in pairs]

    return WeightNames(
        [*prefixed(backbone.pairs), *pixel_decoder, *_TRANSFORMER_DECODER],
        fused=[*prefixed(backbone.fused), *fused, *_TRANSFORMER_DECODER_FUSED],
        kind="The original Mask2Former",
    )


ORIGINAL_NAMES = {
    (pixel_decoder, backbone): _original(pairs, fused, names)
    for backbone, names in (("resnet", resnet_weights.DETECTRON2_NAMES), ("swin", swin_weights.OFFICIAL_NAMES))
    for pixel_decoder, pairs, fused in (
        ("ms_deform_attn", _MS_DEFORM_ATTN, []),
        ("fpn", _feature_pyramid(4, 3), []),
        ("transformer_fpn", _TRANSFORMER_FPN, _TRANSFORMER_FPN_FUSED),
    )
}
"""Names in the original code, for each pair of pixel decoder and backbone."""

_WITHOUT_WEIGHTS = re.compile(r"criterion\.empty_weight|pixel_(mean|std)|.+\.(relative_position_index|attn_mask)")


def from_stock(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return stock weights under our names.

    Raises:
        ValueError: For names that no Mask2Former has.
    """
    return STOCK_NAMES.to_ours({key: value for key, value in state_dict.items() if not STOCK_ONLY.fullmatch(key)})


def to_stock(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our weights under the stock names; the exact reverse of `from_stock`.

    Raises:
        ValueError: For names that the stock model has no place for.
    """
    return STOCK_NAMES.to_theirs(state_dict)


def from_original(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return original weights under our names, whichever release wrote them.

    Raises:
        ValueError: For weights of another model, or names that are not known.
    """
    weights: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        name = _current_name(key)
        if _WITHOUT_WEIGHTS.fullmatch(name):
            continue
        if name in weights:
            raise ValueError(f"{key!r} is in the checkpoint twice, under an old and a new name.")
        weights[name] = tensor
    return ORIGINAL_NAMES[_pixel_decoder_of(weights), _backbone_of(weights)].to_ours(weights)


def to_original(state_dict: Mapping[str, Tensor], pixel_decoder: str, backbone: str) -> dict[str, Tensor]:
    """Return our weights under the names of the original code; the exact reverse of `from_original`.

    Args:
        state_dict: Our weights.
        pixel_decoder: As in our config.
        backbone: The `model_type` of the backbone.

    Raises:
        ValueError: When the original code has no such model.
    """
    names = ORIGINAL_NAMES.get((pixel_decoder, backbone))
    if names is None:
        known = ", ".join(" with ".join(pair) for pair in ORIGINAL_NAMES)
        raise ValueError(
            f"The original code has no pixel decoder {pixel_decoder!r} with backbone {backbone!r}; it has {known}."
        )
    return names.to_theirs(state_dict)


def _current_name(key: str) -> str:
    """Bring a name to today's form: without `module.`, with `pixel_decoder.` exactly once."""
    name = re.sub(r"^(module\.)+", "", key)
    name = re.sub(r"^sem_seg_head\.(?!predictor\.)(pixel_decoder\.)*", f"{_HEAD}.", name)
    return name.replace(f"{_PREDICTOR}.static_query.", f"{_PREDICTOR}.query_feat.")


def _pixel_decoder_of(weights: Mapping[str, Any]) -> str:
    if not any(name.startswith(f"{_PREDICTOR}.transformer_cross_attention_layers.") for name in weights):
        raise ValueError(
            f"This is not a checkpoint of the original Mask2Former: it has no weights {_PREDICTOR}.transformer_cross_"
            f"attention_layers.*, but for example {', '.join(list(weights)[:3])}."
        )
    if f"{_HEAD}.transformer.level_embed" in weights:
        return "ms_deform_attn"
    return "transformer_fpn" if f"{_HEAD}.input_proj.weight" in weights else "fpn"


def _backbone_of(weights: Mapping[str, Any]) -> str:
    for name, mark in (("swin", "backbone.patch_embed."), ("resnet", "backbone.stem.")):
        if any(key.startswith(mark) for key in weights):
            return name
    found = next((key for key in weights if key.startswith("backbone.")), "no weights of a backbone")
    raise ValueError(f"The backbone is neither a ResNet nor a Swin of the original code: found {found}.")
