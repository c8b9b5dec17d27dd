# SPDX-License-Identifier: Apache-2.0
"""What files say of themselves in, what reading does to them out: EXIF data that turn them, levels that are lost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from unisegment.checking.image_files import FileFacts
from unisegment.data.problems import Problem
from unisegment.data.reading.image_reading import Exif, ImageReading, lost_range
from unisegment.ops.image_opening import open_image
from unisegment.ops.orientation import exif_orientation, turned_size
from unisegment.types import Size

_OTHER: dict[Exif, Exif] = {"upright": "stored", "stored": "upright"}


def check_size(file: Path, facts: FileFacts, expected: Size, source: Path | None, exif: Exif) -> Iterator[Problem]:
    """Give what is wrong with the size of a file, or may be wrong with its orientation.

    Args:
        file: An image, or a map of labels.
        facts: What it says of itself.
        expected: Height and width that it should have.
        source: What says so.
        exif: How it is read.
    """
    seen = facts.seen(exif)
    if seen != expected:
        says = f"it is {_text(seen)} {exif} (height x width), but {source} says {_text(expected)}"
        yield _of_other_size(file, says, is_turned=facts.seen(_OTHER[exif]) == expected, exif=exif)
    else:
        yield from _check_orientation(file, facts.stored, facts.orientation, exif)


def compare_sizes(file: Path, facts: FileFacts, map_facts: FileFacts, exif: Exif) -> Iterator[Problem]:
    """Give the same of an image and its map of labels, which are read alike.

    Args:
        file: The map.
        facts: What the image says of itself.
        map_facts: What the map says.
        exif: How both are read.
    """
    seen, expected = map_facts.seen(exif), facts.seen(exif)
    if seen != expected:
        other = _OTHER[exif]
        says = f"it is {_text(seen)} (height x width), but its image {_text(expected)} {exif}"
        yield _of_other_size(file, says, is_turned=map_facts.seen(other) == facts.seen(other), exif=exif)
    elif facts.orientation != map_facts.orientation:
        for turned in (facts, map_facts):
            yield from _check_orientation(file, turned.stored, turned.orientation, exif)


def check_stored_image(name: str, image: Any, reading: ImageReading) -> Iterator[Problem]:
    """Give the same of an image that is no file of its own, Pillow's or an array; nothing of None."""
    if image is None:
        return
    if isinstance(image, Image.Image):
        yield from _check_orientation(name, (image.height, image.width), exif_orientation(image), reading.exif)
    lost = lost_range(image) if reading.range == "dtype" else None
    if lost is not None:
        yield Problem("few-levels", name, lost)


def check_levels(file: Path, facts: FileFacts, reading: ImageReading) -> Iterator[Problem]:
    """Give that most levels of an image of 16 bits are lost; it can be decoded."""
    lost = lost_range(open_image(file)) if facts.has_16_bits and reading.range == "dtype" else None
    if lost is not None:
        yield Problem("few-levels", str(file), lost)


def _of_other_size(file: Path, says: str, is_turned: bool, exif: Exif) -> Problem:
    if is_turned:
        return Problem("exif-rotated", str(file), f"{says}. data.exif={_OTHER[exif]} reads them alike")
    return Problem("wrong-size", str(file), says)


def _check_orientation(file: Path | str, stored: Size, orientation: int, exif: Exif) -> Iterator[Problem]:
    # A quarter turn shows in the size, unless the image is square. Whoever has said `stored` has seen to it.
    if orientation != 1 and turned_size(stored, orientation) == stored and exif == "upright":
        yield Problem("exif-turned", str(file), f"its EXIF orientation is {orientation}, which its size does not show")


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
