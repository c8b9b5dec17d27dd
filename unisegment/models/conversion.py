# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of one code base in, the same for another one out."""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from unisegment.data.categories import stuff_label_ids
from unisegment.models.unisegment.base_weights import ORIGINAL_ZOO
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation


def convert(
    source: str,
    destination: str | os.PathLike[str],
    to: Literal["unisegment", "transformers", "original"] = "unisegment",
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
    names: dict[str, Any] = {} if id2label is None else {"id2label": dict(id2label)}
    if os.path.isfile(source):
        model = UniSegmentForUniversalSegmentation.from_original(source, license=license, **names)
    else:
        model = UniSegmentForUniversalSegmentation.from_pretrained(source, **names)
    if to == "original":
        model.export_original(destination)
        return model
    model.save_pretrained(destination, format=to)
    _processor(source, model).save_pretrained(destination, format=to)
    return model


def _processor(source: str, model: UniSegmentForUniversalSegmentation) -> UniSegmentImageProcessor:
    """Return the source's own processor, or the original's settings where it has none."""
    if not os.path.isfile(source):
        with suppress(OSError):
            return UniSegmentImageProcessor.from_pretrained(source)
    return UniSegmentImageProcessor(stuff_label_ids=stuff_label_ids(model.config.id2label))
