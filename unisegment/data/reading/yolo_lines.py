# SPDX-License-Identifier: Apache-2.0
"""A text file of YOLO in, the objects that its lines are, and the pixels of each, out.

Source: https://docs.ultralytics.com/datasets/segment/.
"""

from array import array
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from unisegment.data.problems import Problem
from unisegment.data.reading.packed_shapes import PackedShapes
from unisegment.data.reading.text_lines import read_lines
from unisegment.ops.json_values import shown
from unisegment.types import Size

FARTHEST = 1.0
"""How far outside of its image a corner may be, in widths and heights of it. What is outside is cut off."""
_LARGEST_FILE = 2**24
"""Bytes of the text file of an image: some hundred thousand corners."""


class YoloObject(NamedTuple):
    """An object as a line of a text file has it.

    Args:
        line: Number of the line, from 1.
        category_id: Its class.
        polygon: x, y, x, y, … as fractions of the width and height of the image.
    """

    line: int
    category_id: int
    polygon: Float64[np.ndarray, " n"]


def read_objects(file: Path, known: Collection[int]) -> Iterator[YoloObject]:
    """Give the objects of a text file: none if it is empty or not there.

    Args:
        file: The file.
        known: The classes that there are.

    Raises:
        DataError: When it cannot be read, or a line is not in the format; says which.
    """
    for number, line in read_lines(file, _LARGEST_FILE) if file.is_file() else ():
        try:
            numbers = np.array(array("d", map(float, line.split())))
        except ValueError as error:
            detail = f"line {number}: expected are numbers, `class x y x y …`, got {shown(line.strip())}."
            raise Problem("wrong-structure", str(file), detail).error() from error
        wrong = _what_is_wrong(numbers, known)
        if wrong is not None:
            raise Problem(wrong[0], str(file), f"line {number}: {wrong[1]}").error()
        yield YoloObject(number, int(numbers[0]), numbers[1:])


def _what_is_wrong(numbers: Float64[np.ndarray, " n"], known: Collection[int]) -> tuple[str, str] | None:
    """Return what is wrong with a class and the coordinates behind it: the kind of problem, and the detail."""
    if numbers[0] not in known:
        there = ", ".join(map(str, sorted(known)[:10])) + (", …" if len(known) > 10 else "")
        return "unknown-category", f"there is no class {numbers[0]:g}, only {there}. Correct it, or name it."
    if len(numbers) == 5:
        return "wrong-structure", (
            "four numbers behind the class are a box, but segmentation needs polygons, `class x y x y x y …`. Export "
            "the data set again, for segmentation, or remove the line."
        )
    if len(numbers) % 2 == 0:
        return "bad-polygon", f"a polygon must be an even number of coordinates, x y x y …, got {len(numbers) - 1}."
    low, high = float(numbers[1:].min(initial=0)), float(numbers[1:].max(initial=1))
    if low >= -FARTHEST and high <= 1 + FARTHEST:
        return None
    return "bad-polygon", (
        f"a polygon has the coordinate {low if low < -FARTHEST else high:g}, but coordinates must be fractions of the "
        "width and height of the image, from 0 to 1 and not far outside: divide pixels by its size."
    )


def pixels_of(item: YoloObject, size: Size, file: Path) -> Int64[np.ndarray, " p"]:
    """Return the pixels of an object, each once, as places in the image read row by row.

    Args:
        item: The object.
        size: Height and width of the image.
        file: The text file, for messages.

    Raises:
        DataError: When it cannot be drawn.
    """
    polygon = item.polygon * np.tile(size[::-1], len(item.polygon) // 2)
    shapes = PackedShapes()
    shapes.append([polygon.tolist()])
    try:
        return shapes.pixels(0, size)
    except ValueError as error:
        raise Problem("bad-polygon", str(file), f"line {item.line}: {error}").error() from error
