# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of three code bases by one door, in and out."""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from unisegment.models.unisegment.base_weights import ORIGINAL_ZOO
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.models.unisegment.stuff_labels import find_stuff

Format = Literal["unisegment", "transformers", "original"]


def open_model(source: str | os.PathLike[str], **keywords: Any) -> Any:
    """Open a checkpoint of any of the three code bases; whose it is shows by itself.

    Args:
        source: A folder or Hub id of ours or of transformers' Mask2Former, or a file of the original code.
        **keywords: Of `from_pretrained` or, for a file, of `from_original`.

    Returns:
        The model; with `output_loading_info` also the report, as there.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When the source cannot be read.
    """
    if os.path.isfile(source):
        return UniSegmentForUniversalSegmentation.from_original(source, **keywords)
    return UniSegmentForUniversalSegmentation.from_pretrained(source, **keywords)


def open_processor(
    source: str | os.PathLike[str], config: UniSegmentConfig, **keywords: Any
) -> UniSegmentImageProcessor:
    """Open the image processor of a checkpoint; where it has none, it is the original's.

    Args:
        source: As for `open_model`.
        config: The model's, whose names of classes predictions have, and which may tell what is stuff.
        **keywords: Of the processor.

    Raises:
        ValueError: When its processor was saved for other classes, and nothing tells which are stuff.
    """
    assert config.id2label is not None
    if not os.path.isfile(source):
        with suppress(OSError):
            return UniSegmentImageProcessor.from_pretrained(source, id2label=config.id2label, **keywords)
    return UniSegmentImageProcessor(
        id2label=config.id2label, **{"stuff_label_ids": find_stuff(config.id2label, config.categories), **keywords}
    )


def convert(
    source: str,
    destination: str | os.PathLike[str],
    to: Format = "unisegment",
    id2label: Mapping[int, str] | None = None,
    license: str = ORIGINAL_ZOO,
) -> UniSegmentForUniversalSegmentation:
    """Write a checkpoint in another format; whose it is shows by itself.

    Args:
        source: A folder or Hub id of ours or of transformers' Mask2Former, or a file of the original code.
        destination: A folder, with the image processor in it; for "original" a `.pkl`, `.pth` or `.safetensors` file.
        to: The format to write.
        id2label: Names of the classes, where the source has none.
        license: Licence of the weights in a file of the original code.

    Returns:
        The model.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When the source cannot be read, or the other code base has no such model.
    """
    keywords: dict[str, Any] = {} if id2label is None else {"id2label": dict(id2label)}
    if os.path.isfile(source):
        keywords["license"] = license
    model = open_model(source, **keywords)
    if to == "original":
        model.export_original(destination)
        return model
    model.save_pretrained(destination, format=to)
    open_processor(source, model.config).save_pretrained(destination, format=to)
    return model
