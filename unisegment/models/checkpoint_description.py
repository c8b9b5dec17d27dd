# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint of any code base says it is: all of it is checked but the numbers of its weights.

Nothing here needs the code of models, whose import takes longer than everything that a refusal needs.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME

from unisegment.models.base import FAMILIES, Family, StockLayout
from unisegment.models.configuration import SegmentationConfig
from unisegment.ops.checkpoint_files import HUB_KEYS, chosen, named, require_whole, weight_bytes
from unisegment.ops.json_values import shown
from unisegment.ops.weight_files import damage_named, read_weight_file, weights_in
from unisegment.ops.weight_sources import MissingSourceError


@dataclass(frozen=True)
class Description:
    """A checkpoint before it becomes a model.

    Args:
        family: What it is a model of.
        config: Its config, as ours.
        place: What says so, for errors.
        num_bytes: How many bytes its weights have; None when there are none, which is said elsewhere.
        stock: Whose layout it has, and its config there, where it is transformers' own.
        weights: Its weights under our names, where these had to be read to know the config.
    """

    family: Family
    config: SegmentationConfig
    place: str
    num_bytes: int | None
    stock: tuple[StockLayout, PreTrainedConfig] | None = None
    weights: Mapping[str, Tensor] | None = None


def describe(name_or_path: Any, keywords: Mapping[str, Any], family: Family | None = None) -> Description:
    """Look at a checkpoint of ours or of transformers.

    Args:
        name_or_path: Hub id or local folder.
        keywords: Of `from_pretrained`.
        family: The only one whose checkpoints are wanted; None means any.

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
    config_dict, _ = SegmentationConfig.get_config_dict(name_or_path, **hub)
    model_type = config_dict.get("model_type")
    found = FAMILIES.reading(model_type)
    if found is None or (family is not None and found.model_type != family.model_type):
        raise _other_kind(name_or_path, model_type, found, family)
    place = os.path.join(name_or_path, CONFIG_NAME)
    with named(place):
        if model_type == found.model_type:
            stock, config = None, found.config.from_dict(config_dict)
        else:
            layout = next(layout for layout in found.stock if layout.model_type == model_type)
            theirs, config = layout.read_config(config_dict)
            stock = layout, theirs
    reading = chosen(keywords, (*HUB_KEYS, "variant", "use_safetensors"))
    with damage_named(name_or_path):
        num_bytes = weight_bytes(name_or_path, file_name=config_dict.get("transformers_weights"), **reading)
    # Of the Hub, and of variants that there are, transformers says more.
    if num_bytes is None and os.path.isdir(name_or_path) and not {"variant", "state_dict"} & keywords.keys():
        raise MissingSourceError(
            f"{os.fspath(name_or_path)} holds no weights: expected is {SAFE_WEIGHTS_NAME} or {WEIGHTS_NAME} beside "
            f"its {CONFIG_NAME}. Fetch it again."
        )
    return Description(found, config, place, num_bytes, stock)


def _other_kind(name_or_path: Any, model_type: Any, found: Family | None, wanted: Family | None) -> ValueError:
    """Return the error about a checkpoint that is not what was asked for."""
    families = [*FAMILIES.values()] if wanted is None else [wanted]
    ours = ", ".join(repr(one.model_type) for one in families)
    theirs = ", ".join(repr(layout.model_type) for one in families for layout in one.stock)
    reader = "UniSegment" if wanted is None else wanted.model_class.partition(":")[2]
    advice = "" if found is None else f" Open it with {found.model_class.partition(':')[2]}."
    return ValueError(
        f"{str(name_or_path)!r} is a checkpoint of model_type {shown(model_type)}; {reader} reads {ours} and "
        f"transformers' {theirs}, and by `from_original` files of the original code.{advice}"
    )


def describe_file(
    path: str | os.PathLike[str], family: Family | None = None, license: str | None = None, **options: Any
) -> Description:
    """Look at a file of a family's original code, and read its weights.

    Args:
        path: The file.
        family: Whose code has written it; None means that the names of the weights tell.
        license: Licence of the weights; None is that of the authors' own ones.
        options: What no weight tells, see the family's `from_original`.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When the file is no such checkpoint, is damaged, or holds more than weights.
    """
    content = read_weight_file(path)
    with _of_file(path):
        family = family or _owner(weights_in(content, path))
        original = family.original
        if original is None:
            raise ValueError(f"{family.name} has no checkpoints of an original code.")
        config, weights = original.read(content, path, license or original.license, **options)
    return Description(family, config, os.fspath(path), os.path.getsize(path), weights=weights)


def _owner(names: Collection[str]) -> Family:
    family = FAMILIES.owning(names)
    if family is None:
        known = " or ".join(one.name for one in FAMILIES.values() if one.original is not None)
        raise ValueError(
            f"This is not a checkpoint of the original {known}: its weights are called, for example, "
            f"{', '.join(sorted(names)[:3])}."
        )
    return family


@contextmanager
def _of_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors name a file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r}: {error}") from error
