# SPDX-License-Identifier: Apache-2.0
"""What each key of a config may be, whether it comes from a file, from the constructor or from an override."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from unisegment.data.annotated_images import category_entry, category_of_entry
from unisegment.ops.json_values import shown
from unisegment.ops.limits import MAX_LABELS, MAX_NUMBER, MAX_POINTS, MAX_QUERIES
from unisegment.ops.value_kinds import (
    FLAG,
    NOTHING,
    TEXT,
    Kind,
    list_of,
    mapping_of,
    number,
    one_of,
    require,
    whole,
)

_WEIGHT = number(0, 1e6)
_LABEL = whole(0, MAX_LABELS) | Kind(
    "the same as text", lambda label: isinstance(label, str) and re.fullmatch("[0-9]{1,6}", label) is not None
)
_NAME = Kind("a name", lambda name: isinstance(name, str | int | float) and not isinstance(name, bool))
_DTYPE = (
    Kind("the name of a dtype, such as float32", lambda name: isinstance(getattr(torch, str(name), None), torch.dtype))
    | Kind("a dtype", lambda value: isinstance(value, torch.dtype))
    | NOTHING
)
_DTYPES = _DTYPE | Kind("a mapping of parts of the model to these", mapping_of(_DTYPE, 99).fits)
NAMES_OF_LABELS = Kind("a mapping of labels to names", mapping_of(_NAME, MAX_LABELS, keys=_LABEL).fits)
"""What `id2label` is; in files, the labels are texts."""
# Names of code in transformers; those with a slash would fetch code from the Hub.
_IMPLEMENTATION = Kind(
    "a name such as sdpa", lambda name: isinstance(name, str) and re.fullmatch(r"[\w|]{1,99}", name) is not None
)
_IMPLEMENTATIONS = (
    _IMPLEMENTATION
    | Kind("a mapping of parts of the model to names", mapping_of(_IMPLEMENTATION | NOTHING, 9).fits)
    | NOTHING
)
_ENTRY = Kind("an object with id, name and isthing", lambda entry: isinstance(entry, dict))
_OPTIONS = Kind("a mapping or null", lambda value: not isinstance(value, str | int | float | list | tuple))

KINDS: Mapping[str, Kind] = {
    "backbone": TEXT | NOTHING,
    "use_pretrained_backbone": FLAG,
    "base_weights": list_of(mapping_of(TEXT, 99), 0, 999) | NOTHING,
    "categories": Kind("a list of categories", lambda value: isinstance(value, list | tuple)) | NOTHING,
    "architectures": list_of(TEXT, 0, 99) | NOTHING,
    "attn_implementation": _IMPLEMENTATIONS,
    "_attn_implementation": _IMPLEMENTATIONS,
    "chunk_size_feed_forward": whole(0, MAX_NUMBER),
    "dtype": _DTYPES,
    "experts_implementation": _IMPLEMENTATIONS,
    "_experts_implementation": _IMPLEMENTATIONS,
    "fusion_config": _OPTIONS,
    "id2label": NAMES_OF_LABELS | NOTHING,
    "is_encoder_decoder": FLAG,
    "label2id": Kind("a mapping of names to labels", mapping_of(_LABEL, MAX_LABELS, keys=_NAME).fits) | NOTHING,
    "num_labels": whole(1, MAX_LABELS),
    "output_attentions": FLAG | NOTHING,
    "output_hidden_states": FLAG | NOTHING,
    "per_layer_config": NOTHING,
    "problem_type": TEXT | NOTHING,
    "quantization_config": _OPTIONS,
    "return_dict": FLAG | NOTHING,
    "tie_word_embeddings": FLAG | NOTHING,
    "torch_dtype": _DTYPES,
    "transformers_version": TEXT | NOTHING,
    "transformers_weights": TEXT | NOTHING,
}
"""By key: those that all families have, and those of transformers that it, or we, act on."""

QUERY_KINDS: Mapping[str, Kind] = {
    "num_queries": whole(1, MAX_QUERIES),
    "no_object_weight": _WEIGHT,
    "class_weight": _WEIGHT,
    "mask_weight": _WEIGHT,
    "dice_weight": _WEIGHT,
    "train_num_points": whole(1, MAX_POINTS),
    "oversample_ratio": number(1, 1000),
    "importance_sample_ratio": number(0, 1),
    "output_auxiliary_logits": FLAG | NOTHING,
    "loss_normalization": one_of("global", "rank"),
}
"""By key: those of all models with queries."""


def is_activation(name: Any) -> bool:
    """Tell whether transformers has an activation of a name."""
    if name == "relu" or not isinstance(name, str):
        return name == "relu"
    from transformers.activations import ACT2FN  # which brings much else: it would take longer than all configs

    return name in ACT2FN


def checked_categories(categories: Any) -> list[dict[str, Any]]:
    """Return categories with the keys `id`, `name` and `isthing`; see `SegmentationConfig`.

    Raises:
        ValueError: When they are none, or two have the same id.
    """
    require("categories", categories, list_of(_ENTRY, 0, MAX_LABELS))
    try:
        entries = [category_entry(category_of_entry(entry)) for entry in categories]
    except ValueError as error:
        raise ValueError(
            f'categories must be a list of {{"id": 7, "name": "sky", "isthing": 0}}, got {shown(categories)}: {error}.'
        ) from error
    repeated = [number for number, count in Counter(entry["id"] for entry in entries).items() if count > 1]
    if repeated:
        raise ValueError(f"categories must have different ids, got several of {repeated[:5]}.")
    return entries
