# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a PNG file of labels: its channels, its ids, and signs that it was resized or compressed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int32
from PIL import Image

from unisegment.checking.image_files import FileFacts
from unisegment.data.problems import Problem
from unisegment.data.reading.panoptic_maps import ONE_CHANNEL

_LABEL_MODES = (*ONE_CHANNEL, "P", "RGB")
_FEWEST_BLENDED, _BLENDED_SHARE = 16, 0.25
"""How many border pixels, and which part of them, must hold a number in between."""


def check_label_map(file: Path, facts: FileFacts) -> Iterator[Problem]:
    """Return what the beginning of a PNG file of labels or objects says against it."""
    if facts.format in ("JPEG", "MPO"):
        yield Problem("lossy-label-map", str(file), "it is a JPEG file: make it again from its source, as PNG")
    elif facts.mode not in _LABEL_MODES:
        detail = f"its channels are {facts.mode} in Pillow; expected one of 8 or 16 bits, or red, green and blue"
        yield Problem("label-map-channels", str(file), detail)


def check_numbers(file: Path, facts: FileFacts, message: str) -> Problem:
    """Return that a PNG file of labels has numbers that belong to no category, and what that may come from.

    Args:
        file: The PNG file, which can be decoded.
        facts: What its beginning says.
        message: What its reader says.
    """
    hint = ""
    if facts.mode == "RGB":
        hint = " It has three channels, read as red + 256 green + 65536 blue: turn colours into ids first."
    else:
        with Image.open(file) as image:
            if is_blended(np.asarray(image).astype(np.int32)):
                hint = " Its borders hold numbers in between: resize labels to the nearest, never smoothly."
    return Problem("unknown-id", str(file), message + hint)


def is_blended(id_map: Int32[np.ndarray, "h w"]) -> bool:
    """Tell whether a map looks as if it had been resized or smoothed like a photograph.

    Then the pixels at borders hold numbers between those of both sides, which in a map of labels is rare.
    """
    borders = blended = 0
    for rows in (id_map, id_map.T):
        before, here, after = rows[:-2], rows[1:-1], rows[2:]
        is_border = before != after
        is_between = (here > np.minimum(before, after)) & (here < np.maximum(before, after))
        borders += int(is_border.sum())
        blended += int(is_between.sum())
    return blended >= max(_FEWEST_BLENDED, _BLENDED_SHARE * borders)
