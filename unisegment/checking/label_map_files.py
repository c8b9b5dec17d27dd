# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a PNG file of labels: its channels, its ids, and signs that it was resized or compressed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int32
from PIL import Image

from unisegment.checking.image_files import FileFacts
from unisegment.data.annotated_images import distinct_ids
from unisegment.data.problems import Problem
from unisegment.data.reading.image_reading import read_image
from unisegment.ops.masks import NUM_COLORS, rgb_to_ids

_LARGEST = {"1": 1, "L": 255, "P": 255, "RGB": NUM_COLORS - 1}
_LARGEST_OTHER = 65535
_ONE_CHANNEL = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_LABEL_MODES = (*_ONE_CHANNEL, "P", "RGB")
_SHOWN = 5
_FEWEST_BLENDED, _BLENDED_SHARE = 16, 0.25
"""How many border pixels, and which part of them, must hold a number in between."""


def largest_number(mode: str) -> int:
    """Return the largest number that a pixel can hold in an image of one of Pillow's modes."""
    return _LARGEST.get(mode, _LARGEST_OTHER)


def check_label_map(file: Path, facts: FileFacts) -> Iterator[Problem]:
    """Return what the beginning of a PNG file of labels or objects says against it."""
    if facts.format in ("JPEG", "MPO"):
        yield Problem("lossy-label-map", str(file), "it is a JPEG file: make it again from its source, as PNG")
    elif facts.mode not in _LABEL_MODES:
        detail = f"its channels are {facts.mode} in Pillow; expected one of 8 or 16 bits, or red, green and blue"
        yield Problem("label-map-channels", str(file), detail)


def check_panoptic_map(file: Path, facts: FileFacts, segment_ids: list[int], hidden_segments: bool) -> list[Problem]:
    """Return how a panoptic PNG file disagrees with the segments that are listed for it.

    Args:
        file: The PNG file, which can be decoded.
        facts: What its beginning says.
        segment_ids: The ids that are listed.
        hidden_segments: Segments may be listed of which no pixel is to be seen.
    """
    if facts.format in ("JPEG", "MPO"):
        return [Problem("lossy-label-map", str(file), "it is a JPEG file: make it again from its source, as PNG")]
    if facts.mode in _ONE_CHANNEL and (segment_ids or facts.mode != "L"):
        largest = largest_number(facts.mode)
        too_large = [number for number in segment_ids if number > largest]
        detail = f"it has one channel ({facts.mode} in Pillow); ids must be colours: red + 256 green + 65536 blue"
        if too_large:
            return [Problem("id-too-large", str(file), f"the ids {too_large[:_SHOWN]} are listed, but {detail}")]
        return [Problem("label-map-channels", str(file), detail)]
    return _compare(file, distinct_ids(rgb_to_ids(read_image(file))) - {0}, set(segment_ids), hidden_segments)


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


def _compare(file: Path, drawn: set[int], listed: set[int], hidden_segments: bool) -> list[Problem]:
    findings = []
    if drawn - listed:
        detail = f"{len(drawn - listed)} ids are not listed for it: {sorted(drawn - listed)[:_SHOWN]}"
        findings.append(Problem("unlisted-segment", str(file), detail))
    if listed - drawn and not hidden_segments:
        detail = f"{len(listed - drawn)} ids are listed, but not drawn: {sorted(listed - drawn)[:_SHOWN]}"
        findings.append(Problem("undrawn-segment", str(file), detail))
    return findings
