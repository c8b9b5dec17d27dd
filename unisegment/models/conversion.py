# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of three code bases by one door, in and out."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils import IMAGE_PROCESSOR_NAME, PROCESSOR_NAME

from unisegment.models.choices import ORIGINAL_ZOO, Format
from unisegment.models.unisegment.checkpoint_description import describe
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.original_checkpoints import read_original
from unisegment.models.unisegment.stuff_labels import find_stuff
from unisegment.ops.checkpoint_files import find_file
from unisegment.ops.importing import importing
from unisegment.ops.weight_sources import WEIGHT_ENDINGS, find_checkpoint


def open_model(source: str | os.PathLike[str], **keywords: Any) -> Any:
    """Open a checkpoint of any of the three code bases; whose it is shows by itself.

    Args:
        source: As for `find_checkpoint`.
        **keywords: Of `from_pretrained`; for a file also `license`, as `from_original` has it.

    Returns:
        The model; with `output_loading_info` also the report, as there.

    Raises:
        MissingSourceError: As `find_checkpoint` does.
        ValueError: When the source cannot be read.
    """
    source, read = find_checkpoint(source), None
    # Before the code of models is imported, which takes longer than to find what is wrong with a checkpoint.
    if os.path.isfile(source):
        license = keywords.pop("license", ORIGINAL_ZOO)
        read = read_original(source, license)
    else:
        describe(source, keywords)
    with importing():
        from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation

    if read is not None:
        return UniSegmentForUniversalSegmentation.of_original(source, *read, **keywords)
    return UniSegmentForUniversalSegmentation.from_pretrained(source, **keywords)


def open_processor(source: str | os.PathLike[str], config: UniSegmentConfig, **keywords: Any) -> Any:
    """Open the image processor of a checkpoint; where it has none, it is the original's.

    Args:
        source: As for `find_checkpoint`.
        config: The model's, whose names of classes predictions have, and which may tell what is stuff.
        **keywords: Of the processor.

    Raises:
        MissingSourceError: As `find_checkpoint` does.
        ValueError: When its processor cannot be read, or was saved for other classes and nothing tells which are stuff.
    """
    with importing():  # here, as in `open_model`
        from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor

    source = find_checkpoint(source)
    assert config.id2label is not None
    if not os.path.isfile(source) and any(find_file(source, name) for name in (IMAGE_PROCESSOR_NAME, PROCESSOR_NAME)):
        return UniSegmentImageProcessor.from_pretrained(source, id2label=config.id2label, **keywords)
    return UniSegmentImageProcessor(
        id2label=config.id2label, **{"stuff_label_ids": find_stuff(config.id2label, config.categories), **keywords}
    )


def format_of(destination: str | os.PathLike[str]) -> Format:
    """Return the format that is written to a place when nothing else is asked for: "original" where a file is named."""
    return "original" if Path(destination).suffix in WEIGHT_ENDINGS else "unisegment"


def convert(
    source: str,
    destination: str | os.PathLike[str],
    to: Format | None = None,
    id2label: Mapping[int, str] | None = None,
    license: str = ORIGINAL_ZOO,
) -> Any:
    """Write a checkpoint in another format; whose it is shows by itself.

    Args:
        source: As for `find_checkpoint`.
        destination: A folder, with the image processor in it; for "original" a `.pkl`, `.pth` or `.safetensors` file.
        to: The format to write; None takes `format_of` the destination.
        id2label: Names of the classes, where the source has none.
        license: Licence of the weights in a file of the original code.

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
    model = open_model(source, **keywords)
    if to == "original":
        model.export_original(destination)
        return model
    processor = open_processor(source, model.config)  # what cannot be read is found before anything is written
    model.save_pretrained(destination, format=to)
    processor.save_pretrained(destination, format=to)
    return model
