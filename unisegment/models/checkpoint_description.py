# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint of any code base says it is: all of it is checked but the numbers of its weights.

Nothing here needs the code of models, whose import takes longer than everything that a refusal needs.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import Mask2FormerConfig
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME

from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.original_checkpoints import read_original
from unisegment.models.unisegment.stock_checkpoints import read_stock_config
from unisegment.ops.checkpoint_files import HUB_KEYS, chosen, named, require_whole, weight_bytes
from unisegment.ops.json_values import shown
from unisegment.ops.weight_files import damage_named
from unisegment.ops.weight_sources import MissingSourceError


@dataclass(frozen=True)
class Description:
    """A checkpoint before it becomes a model.

    Args:
        config: Its config, as ours.
        place: What says so, for errors.
        num_bytes: How many bytes its weights have; None when there are none, which is said elsewhere.
        stock: Its config as transformers', where it is theirs.
        weights: Its weights under our names, where these had to be read to know the config.
    """

    config: UniSegmentConfig
    place: str
    num_bytes: int | None
    stock: Mask2FormerConfig | None = None
    weights: Mapping[str, Tensor] | None = None


def describe(name_or_path: Any, keywords: Mapping[str, Any]) -> Description:
    """Look at a checkpoint of ours or of transformers.

    Args:
        name_or_path: Hub id or local folder.
        keywords: Of `from_pretrained`.

    Raises:
        ValueError: When the checkpoint is of another kind of model, its config makes no sense, or its weights are
            damaged.
        MissingSourceError: When a folder has a config and no weights.
    """
    if os.path.isfile(name_or_path):
        raise ValueError(
            f"{os.fspath(name_or_path)!r} is a file. Checkpoints of ours and of transformers are folders; one of "
            "the original code is opened by `from_original`."
        )
    hub = chosen(keywords, HUB_KEYS)
    require_whole(name_or_path, **hub)
    config_dict, _ = UniSegmentConfig.get_config_dict(name_or_path, **hub)
    model_type = config_dict.get("model_type")
    if model_type not in (UniSegmentConfig.model_type, Mask2FormerConfig.model_type):
        raise ValueError(
            f"{str(name_or_path)!r} is a checkpoint of model_type {shown(model_type)}; UniSegment reads "
            "'unisegment' and transformers' 'mask2former', and by `from_original` files of the original code."
        )
    place = os.path.join(name_or_path, CONFIG_NAME)
    with named(place):
        if model_type == UniSegmentConfig.model_type:
            stock, config = None, UniSegmentConfig.from_dict(config_dict)
        else:
            stock, config = read_stock_config(config_dict)
    reading = chosen(keywords, (*HUB_KEYS, "variant", "use_safetensors"))
    with damage_named(name_or_path):
        num_bytes = weight_bytes(name_or_path, file_name=config_dict.get("transformers_weights"), **reading)
    # Of the Hub, and of variants that there are, transformers says more.
    if num_bytes is None and os.path.isdir(name_or_path) and not {"variant", "state_dict"} & keywords.keys():
        raise MissingSourceError(
            f"{os.fspath(name_or_path)} holds no weights: expected is {SAFE_WEIGHTS_NAME} or {WEIGHTS_NAME} beside "
            f"its {CONFIG_NAME}. Fetch it again."
        )
    return Description(config, place, num_bytes, stock)


def describe_original(path: str | os.PathLike[str], *options: Any) -> Description:
    """Look at a file of the original code; `options` and errors are those of `read_original`."""
    config, weights = read_original(path, *options)
    return Description(config, os.fspath(path), os.path.getsize(path), weights=weights)
