# SPDX-License-Identifier: Apache-2.0
"""What somebody's config.json says in, configs of transformers out: nothing that stands there is fetched or run.

transformers asks the Hub for a backbone that a file names, for the code of `auto_map`, for kernels that attention is
named after, and imports the library of a quantisation.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from unisegment.ops.json_values import shown
from unisegment.ops.limits import MAX_DEPTH, MAX_LAYERS, MAX_NUMBER
from unisegment.ops.value_kinds import (
    FLAG,
    NOTHING,
    TEXT,
    entries_of,
    list_of,
    number,
    require,
    require_all,
    require_free,
    whole,
)

PLAIN_VIT_TYPES = frozenset(("dinov2", "dinov2_with_registers", "dinov3_vit"))
"""The model types of plain vision transformers. Their `out_features` stay as they are: the last stage alone."""
_ATTENTION = ("eager", "sdpa")
_ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")

_LAYER_COUNT = re.compile(r"[._](depths?|layers|blocks|stages)(\[\d+\])*$")
"""Keys under which numbers of layers stand, in a list one for each stage."""
_COUNT = re.compile(r"[._](num|\w*sizes?|\w*dims?|\w*heads|\w*channels)(_\w+)?(\[\d+\])*$")
"""Keys under which there are no numbers below 0."""
_NAMES = list_of(TEXT, 0, MAX_LAYERS) | NOTHING
_KINDS = {
    "stage_names": _NAMES,
    "out_features": _NAMES,
    "out_indices": list_of(whole(-MAX_LAYERS, MAX_LAYERS), 0, MAX_LAYERS) | NOTHING,
    "output_hidden_states": FLAG | NOTHING,
    "output_attentions": FLAG | NOTHING,
    "return_dict": FLAG | NOTHING,
}
"""Of keys that all configs of backbones have."""
_NUMBER = whole(-MAX_NUMBER, MAX_NUMBER) | number(-1e30, 1e30)
_NOT_NEGATIVE = whole(0, MAX_NUMBER) | number(0, 1e30)


def backbone_config(keys: Any) -> PreTrainedConfig:
    """Return the config of a backbone of transformers.

    Args:
        keys: Its keys and `model_type`, a dict, perhaps as it stands in a file.

    Raises:
        ValueError: When `model_type` is none of a backbone, for what `require_inert` refuses, for numbers beyond the
            limits of `unisegment.ops.limits`, and for values that transformers refuses.
    """
    model_type = keys.get("model_type") if isinstance(keys, Mapping) else None
    # timm would fetch what its config names.
    is_known = isinstance(model_type, str) and model_type in CONFIG_MAPPING and model_type != "timm_backbone"
    if not is_known or not _is_backbone(CONFIG_MAPPING[model_type]):
        raise ValueError(
            f"backbone_config needs a model_type of which transformers has a backbone, such as 'swin' or 'resnet', got "
            f"{shown(keys if model_type is None else model_type)}."
        )
    require_inert(keys, "backbone_config: ")
    _require_bounded(keys)
    own = {key: value for key, value in keys.items() if key not in ("model_type", "auto_map")}
    require_free(own, CONFIG_MAPPING[model_type])
    try:
        return CONFIG_MAPPING[model_type](**own)
    except Exception as error:  # each of transformers' configs looks at its keys in its own way
        raise ValueError(f"backbone_config: {' '.join(str(error).split())[:300]}") from error


def _is_backbone(kind: type[PreTrainedConfig]) -> bool:
    """Return whether transformers has a backbone for a class of configs."""
    if issubclass(kind, BackboneConfigMixin):  # as all but one are
        return True
    from transformers import MODEL_FOR_BACKBONE_MAPPING  # which the code of models comes with: seconds

    return kind in MODEL_FOR_BACKBONE_MAPPING


def _require_bounded(keys: Mapping[str, Any]) -> None:
    """Check the numbers of a backbone's config, whose keys are transformers' own."""
    require_all(keys, _KINDS)
    layers = 0
    for place, value in entries_of(keys, "backbone_config", MAX_DEPTH):
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if _LAYER_COUNT.search(place) and isinstance(value, int):
            require(place, value, whole(0, MAX_LAYERS))
            layers += value
        elif _COUNT.search(place):
            require(place, value, _NOT_NEGATIVE)
        else:
            require(place, value, _NUMBER)
    if layers > MAX_LAYERS:
        depths = shown(keys.get("depths"))
        raise ValueError(f"backbone_config: {layers} layers in all ({depths}), expected at most {MAX_LAYERS}.")


def require_inert(keys: Mapping[str, Any], where: str = "") -> None:
    """Raise for what stands in a config.json and would be fetched or imported.

    Args:
        keys: What the file says.
        where: What messages start with.

    Raises:
        ValueError: For a backbone that is only named, attention other than "eager" and "sdpa", quantised weights, and a
            `dtype` that is none.
    """
    if keys.get("backbone") is not None and not keys.get("backbone_config"):
        raise ValueError(
            f"{where}backbone={shown(keys['backbone'])} stands in a file without backbone_config, which must say all "
            "its sizes: nothing is fetched because a file names it. If you trust it, write what "
            "UniSegmentConfig(backbone=…).backbone_config.to_dict() gives into the file."
        )
    for key in _ATTENTION_KEYS:
        chosen = keys.get(key)
        for value in chosen.values() if isinstance(chosen, dict) else [chosen]:
            if value is not None and value not in _ATTENTION:
                raise ValueError(
                    f"{where}{key}={shown(chosen)}: a file may say {' or '.join(map(repr, _ATTENTION))}, others may be "
                    "code that is fetched. Remove the key."
                )
    if keys.get("quantization_config") is not None:
        raise ValueError(f"{where}quantization_config: quantised weights cannot be read. Save them without.")
    for key in ("dtype", "torch_dtype"):
        name = keys.get(key)
        kind = getattr(torch, name, None) if isinstance(name, str) else name
        if name is not None and not isinstance(kind, torch.dtype):
            raise ValueError(f"{where}{key}={shown(name)} is no type of torch, such as 'float32' or 'bfloat16'.")
