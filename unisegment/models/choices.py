# SPDX-License-Identifier: Apache-2.0
"""The words that options of checkpoints take, and the list of families. They are here so that help imports no torch."""

from typing import Literal

FOLDERS = {"unisegment": "unisegment", "unisegment_eomt": "eomt"}
"""The folder of each family of models, by the `model_type` of its configs. Its `family.py` ends in a `FAMILY`."""

Format = Literal["unisegment", "transformers", "original"]
"""Whose checkpoint is written: see `unisegment.models.checkpoints.convert`."""

Layout = Literal["auto", "unisegment", "transformers"]
"""What is uploaded to the Hub: "auto" is transformers' own layout where it can hold the model, else ours."""

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
"""What weights are held and computed in: "auto" is the checkpoint's own."""


def is_ours(format: str) -> bool:
    """Return whether a format is "unisegment" rather than "transformers".

    Raises:
        ValueError: For any other format.
    """
    if format not in ("unisegment", "transformers"):
        raise ValueError(f"format must be 'unisegment' or 'transformers', got {format!r}.")
    return format == "unisegment"
