# SPDX-License-Identifier: Apache-2.0
"""What each key of a Mask2Former's config may be, whether it comes from a file, from the constructor or an override."""

from collections.abc import Mapping

from transformers import PreTrainedConfig

from unisegment.models.config_values import QUERY_KINDS, is_activation
from unisegment.ops.limits import MAX_LAYERS, MAX_WIDTH
from unisegment.ops.value_kinds import FLAG, NOTHING, Kind, list_of, number, one_of, whole

_WIDTH = whole(1, MAX_WIDTH)
_ANY_NUMBER = number(-1e9, 1e9)
_BACKBONE = Kind("a mapping with a model_type", lambda value: isinstance(value, Mapping | PreTrainedConfig))

KINDS: Mapping[str, Kind] = {
    **QUERY_KINDS,
    "backbone_config": _BACKBONE | NOTHING,
    "feature_size": _WIDTH,
    "mask_feature_size": _WIDTH,
    "hidden_dim": _WIDTH,
    "encoder_feedforward_dim": _WIDTH,
    "activation_function": Kind("an activation of transformers, such as relu", is_activation),
    "encoder_layers": whole(0, MAX_LAYERS),
    "decoder_layers": whole(1, MAX_LAYERS),
    "num_attention_heads": whole(1, 1024),
    "dropout": number(0, 1),
    "dim_feedforward": _WIDTH,
    "pre_norm": FLAG,
    "enforce_input_projection": FLAG,
    "common_stride": whole(1, 1024),
    "ignore_value": whole(-(2**31), 2**31),
    "init_std": _ANY_NUMBER,
    "init_xavier_std": _ANY_NUMBER,
    "use_auxiliary_loss": FLAG,
    "feature_strides": list_of(whole(1, 4096), 1, 32),
    "num_feature_levels": whole(1, 32),
    "encoder_n_points": whole(1, 1024),
    "pixel_decoder": one_of("ms_deform_attn", "fpn", "transformer_fpn"),
    "pixel_decoder_dtype": one_of("float32", "autocast"),
    "freeze_backbone_norm": FLAG,
}
