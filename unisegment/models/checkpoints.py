# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of any family and code base by one door, in and out."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils import IMAGE_PROCESSOR_NAME

from unisegment.models.base import Family
from unisegment.models.checkpoint_description import describe, describe_file
from unisegment.models.choices import Format
from unisegment.models.image_processor_settings import read_settings
from unisegment.ops.checkpoint_files import HUB_KEYS, chosen, named
from unisegment.ops.weight_sources import WEIGHT_ENDINGS, find_checkpoint


def open_checkpoint(
    source: str | os.PathLike[str],
    of_processor: Mapping[str, Any] | None = None,
    family: Family | None = None,
    **keywords: Any,
) -> tuple[Any, Any]:
    """Open a checkpoint of any family and any of its code bases; whose it is shows by itself.

    Args:
        source: As for `find_checkpoint`.
        of_processor: Keywords of the image processor.
        family: The only one whose checkpoints are wanted; None means any.
        **keywords: Of `from_pretrained`; for a file also `license`, as `from_original` has it.

    Returns:
        The model (with `output_loading_info` also the report, as there), and its image processor, which has the names
        of its labels. Where the checkpoint has no processor, it is the original's.

    Raises:
        MissingSourceError: As `find_checkpoint` does.
        ValueError: When the source cannot be read or is of another family, a keyword is unknown, or its processor was
            saved for other classes and nothing tells which are stuff.
    """
    source, given = find_checkpoint(source), dict(of_processor or {})
    # Before the code of models is imported, which takes longer than to find what is wrong with a checkpoint.
    settings = None
    if os.path.isfile(source):
        described = describe_file(source, family, keywords.pop("license", None))
    else:
        described = describe(source, keywords, family)
        names = keywords.get("id2label") or described.config.id2label
        wanted = {"id2label": names, **given, **chosen(keywords, HUB_KEYS)}
        settings = read_settings(source, wanted, described.family.settings)
    described.family.check_settings(given, settings)
    opened = described.family.model().of_description(source, described, **keywords)
    config = (opened[0] if keywords.get("output_loading_info") else opened).config
    with named(os.path.join(source, IMAGE_PROCESSOR_NAME)):  # nothing else is left to be wrong
        if settings is None:
            return opened, described.family.new_processor(config, **given)
        return opened, described.family.processor().from_dict(settings, **given)


def format_of(destination: str | os.PathLike[str]) -> Format:
    """Return the format that is written to a place when nothing else is asked for: "original" where a file is named."""
    return "original" if Path(destination).suffix in WEIGHT_ENDINGS else "unisegment"


def convert(
    source: str,
    destination: str | os.PathLike[str],
    to: Format | None = None,
    id2label: Mapping[int, str] | None = None,
    license: str | None = None,
) -> Any:
    """Write a checkpoint in another format; whose it is shows by itself.

    Args:
        source: As for `find_checkpoint`.
        destination: A folder, with the image processor in it; for "original" a file that ends as those of the
            family's original code do, such as `.pth`.
        to: The format to write; None takes `format_of` the destination.
        id2label: Names of the classes, where the source has none.
        license: Licence of the weights in a file of the original code; None is that of its authors' own weights.

    Returns:
        The model.

    Raises:
        MissingSourceError: As `find_checkpoint` does.
        ValueError: When the source cannot be read, the destination is no place for the format, or the other code base
            has no such model.
        WriteError: When it cannot be written; what was there is still there.
    """
    to = to or format_of(destination)
    if to != "original" and (os.path.isfile(destination) or format_of(destination) == "original"):
        raise ValueError(f"{os.fspath(destination)} is a file, but a checkpoint of {to} is a folder.")
    keywords: dict[str, Any] = {} if id2label is None else {"id2label": dict(id2label)}
    if os.path.isfile(source):
        keywords["license"] = license
    model, processor = open_checkpoint(source, **keywords)  # what cannot be read is found before anything is written
    if to == "original":
        model.export_original(destination)
        return model
    model.save_pretrained(destination, format=to)
    processor.save_pretrained(destination, format=to)
    return model
