# SPDX-License-Identifier: Apache-2.0
"""PNG files whose colours are segment ids, and the segments that are listed for them: where they do not agree."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32
from PIL import Image

from unisegment.data.annotated_images import distinct_ids
from unisegment.data.problems import Problem
from unisegment.data.reading.image_problems import lossy
from unisegment.ops.column_runs import box_of_mask
from unisegment.ops.masks import NUM_COLORS

_LARGEST = {"1": 1, "L": 255, "P": 255, "RGB": NUM_COLORS - 1}
_LARGEST_OTHER = 65535
ONE_CHANNEL = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of images with one channel."""
_SHOWN = 5


def largest_number(mode: str) -> int:
    """Return the largest number that a pixel can hold in an image of one of Pillow's modes."""
    return _LARGEST.get(mode, _LARGEST_OTHER)


def map_problems(
    file: Path, id_map: Int32[np.ndarray, "h w"], segment_ids: Sequence[int], source: Path, hidden_segments: bool
) -> list[Problem]:
    """Return how a PNG file disagrees with the segments that are listed for it.

    Args:
        file: The PNG file, which can be read.
        id_map: The ids in it.
        segment_ids: Ids of the segments.
        source: The file that lists them.
        hidden_segments: Segments may be listed of which no pixel is to be seen.
    """
    drawn, listed = distinct_ids(id_map) - {0}, set(segment_ids)
    if drawn == listed or (hidden_segments and drawn <= listed):
        return []
    with Image.open(file) as image:
        is_lossy, mode = lossy(file, image.format), image.mode
    if is_lossy is not None:
        return [is_lossy]
    if mode in ONE_CHANNEL:
        too_large = [number for number in segment_ids if number > largest_number(mode)]
        detail = f"it has one channel ({mode} in Pillow); ids must be colours: red + 256 green + 65536 blue."
        if too_large:
            return [Problem("id-too-large", str(file), f"{source} lists the ids {too_large[:_SHOWN]}, but {detail}")]
        return [Problem("label-map-channels", str(file), detail)]
    problems = []
    if drawn - listed:
        detail = f"it has ids that {source} does not list for it: {_shown(drawn - listed)}."
        rows, columns = box_of_mask(np.isin(id_map, [*(drawn - listed)]))
        box = (columns.start, rows.start, columns.stop, rows.stop)
        problems.append(Problem("unlisted-segment", str(file), detail, box=box))
    if listed - drawn and not hidden_segments:
        detail = f"it lacks ids that {source} lists for it: {_shown(listed - drawn)}."
        problems.append(Problem("undrawn-segment", str(file), detail))
    return problems


def _shown(ids: set[int]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"{sorted(ids)[:_SHOWN]}{more}"
