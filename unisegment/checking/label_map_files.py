# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a PNG file of labels: its channels, and signs that it was compressed."""

from collections.abc import Iterator
from pathlib import Path

from unisegment.checking.image_files import FileFacts
from unisegment.data.problems import Problem
from unisegment.data.reading.image_problems import lossy
from unisegment.data.reading.panoptic_maps import ONE_CHANNEL

_LABEL_MODES = (*ONE_CHANNEL, "P", "RGB")


def check_label_map(file: Path, facts: FileFacts) -> Iterator[Problem]:
    """Return what the beginning of a PNG file of labels or objects says against it."""
    is_lossy = lossy(file, facts.format)
    if is_lossy is not None:
        yield is_lossy
    elif facts.mode not in _LABEL_MODES:
        detail = f"its channels are {facts.mode} in Pillow; expected one of 8 or 16 bits, or red, green and blue"
        yield Problem("label-map-channels", str(file), detail)
