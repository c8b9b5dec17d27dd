# SPDX-License-Identifier: Apache-2.0
"""The polygons and run lengths of a whole data set in a few arrays; one mask at a time comes out.

The numbers of COCO's polygons have two decimals. Kept as whole hundredths of 16 bits they take a quarter of the memory
and come back exactly; where a block of numbers has more decimals, it is kept as it is.
"""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from pycocotools import mask as coco_mask

from unisegment.data.reading.packed_columns import smallest
from unisegment.ops.json_values import INT32, shown, value_of, whole_number
from unisegment.ops.rle import pixels_of_rle
from unisegment.types import Size

LONGEST_OUTLINE = 2**22
"""Pixels along the polygons of an object: about a second's work, and 300 MB."""

SHAPE = "a list of polygons [[x, y, x, y, …], …] or {size, counts}"
"""What `segmentation` must be, in words."""

_BLOCK = 2**16
_SCALES = (1, 10, 100)
"""Numbers are kept as whole ones, tenths or hundredths."""
_COMPRESSED, _NUMBERS = 0, 1
_MERGED_AT_ONCE = 16


class _Block(NamedTuple):
    """Numbers of polygons: `(numbers + first) / scale`."""

    numbers: Shaped[np.ndarray, " n"]
    first: int = 0
    scale: int = 1


class PackedShapes:
    """A growing list of shapes, each a list of polygons or run lengths, as COCO's `segmentation` has them."""

    def __init__(self) -> None:
        # Numbers of all polygons one behind the other, in blocks; no polygon spans two of them.
        self._blocks: list[_Block] = []
        self._block_starts = [0]
        self._last_block = array("d")
        self._polygon_bounds = array("q", [0])
        self._first_polygon = array("q", [0])
        self._runs = bytearray()
        self._run_bounds = array("q", [0])

    def __len__(self) -> int:
        return len(self._run_bounds) - 1

    def append(self, segmentation: Any) -> None:
        """Add a shape.

        Args:
            segmentation: A list of polygons [x, y, x, y, …] in pixels, or a dict of `size`, [height, width], and
                `counts`, run lengths column by column as a list or compressed.

        Raises:
            ValueError: When it is neither; what the numbers are is looked at when it is drawn.
        """
        if isinstance(segmentation, dict):
            self._append_runs(segmentation)
        elif isinstance(segmentation, list):
            for polygon in segmentation:
                self._append_polygon(polygon)
        else:
            raise ValueError(f"segmentation must be {SHAPE}, got {shown(segmentation)}")
        self._first_polygon.append(len(self._polygon_bounds) - 1)
        self._run_bounds.append(len(self._runs))
        if len(self._last_block) >= _BLOCK:
            self._close_block()

    def close(self) -> None:
        """Give up memory that is only needed while the list grows."""
        self._close_block()
        self._polygon_bounds, self._first_polygon, self._run_bounds = (
            array("I", bounds) if bounds[-1] < 2**32 else bounds
            for bounds in (self._polygon_bounds, self._first_polygon, self._run_bounds)
        )

    def pixels(self, index: int, size: Size) -> Int64[np.ndarray, " p"]:
        """Return the pixels inside a shape, each once, as places in the image read row by row.

        Polygons of fewer than three points cover nothing. What of them is outside of the image is cut off.

        Args:
            index: Place of the shape.
            size: Height and width of the image.

        Raises:
            ValueError: When a polygon has no even number of coordinates, or some that are not finite or further outside
                than the image is wide or high; when outlines are too long; when run lengths are broken, or those of
                another size.
        """
        runs = bytes(self._runs[self._run_bounds[index] : self._run_bounds[index + 1]])
        if runs:
            return pixels_of_rle(_unpack_runs(runs, size))
        polygons = [self._polygon(place) for place in range(*self._first_polygon[index : index + 2])]
        for polygon in polygons:
            check_polygon(polygon, size)
        drawn = [polygon for polygon in polygons if len(polygon) >= 6]
        # An edge is at most three images long, so that hardly any shape has to be measured.
        if 3 * max(size) * sum(map(len, drawn)) > LONGEST_OUTLINE:
            _check_outlines(drawn)
        if not drawn:
            return np.zeros(0, dtype=np.int64)
        rles = coco_mask.frPyObjects([polygon.tolist() for polygon in drawn], *size)
        # To merge them one by one would take a time that grows with the square of their number.
        while len(rles) > 1:
            rles = [
                coco_mask.merge(rles[start : start + _MERGED_AT_ONCE]) for start in range(0, len(rles), _MERGED_AT_ONCE)
            ]
        return pixels_of_rle(rles[0])

    def _append_polygon(self, polygon: Any) -> None:
        if not isinstance(polygon, list):
            raise ValueError(f"segmentation must be {SHAPE}, got a polygon {shown(polygon)}")
        try:
            self._last_block.fromlist(polygon)
        except (TypeError, OverflowError) as error:
            raise ValueError(f"a polygon must be a list of numbers [x, y, x, y, …], got {shown(polygon)}") from error
        self._polygon_bounds.append(self._block_starts[-1] + len(self._last_block))

    def _append_runs(self, segmentation: dict[str, Any]) -> None:
        size, counts = run_lengths_in(segmentation)
        kind = _NUMBERS if isinstance(counts, np.ndarray) else _COMPRESSED
        self._runs += array("i", [*size, kind]).tobytes() + (counts if isinstance(counts, bytes) else counts.tobytes())

    def _close_block(self) -> None:
        self._blocks.append(_packed(np.array(self._last_block)))
        self._block_starts.append(self._block_starts[-1] + len(self._last_block))
        self._last_block = array("d")

    def _polygon(self, place: int) -> Float64[np.ndarray, " n"]:
        start, end = self._polygon_bounds[place : place + 2]
        number = bisect_right(self._block_starts, start) - 1
        numbers, first, scale = (
            self._blocks[number] if number < len(self._blocks) else _Block(np.asarray(self._last_block))
        )
        begin = self._block_starts[number]
        return (numbers[start - begin : end - begin].astype(np.float64) + first) / scale


def _packed(numbers: Float64[np.ndarray, " n"]) -> _Block:
    """Return numbers in as few bytes as bring them back exactly."""
    with np.errstate(all="ignore"):  # they may be anything
        for scale in _SCALES:
            scaled = np.rint(numbers * scale)
            if (np.abs(scaled) < 2**31).all() and (scaled / scale == numbers).all():
                first = int(scaled.min()) if len(scaled) else 0
                return _Block(smallest(scaled.astype(np.int64) - first), first, scale)
    return _Block(numbers)


def polygon_numbers(polygon: Any) -> Float64[np.ndarray, " n"]:
    """Return the numbers of a polygon.

    Raises:
        ValueError: When it is no list of numbers; what they are is looked at when it is drawn.
    """
    if not isinstance(polygon, list):
        raise ValueError(f"segmentation must be {SHAPE}, got a polygon {shown(polygon)}")
    try:
        return np.array(array("d", polygon))
    except (TypeError, OverflowError) as error:
        raise ValueError(f"a polygon must be a list of numbers [x, y, x, y, …], got {shown(polygon)}") from error


def check_polygon(polygon: Float64[np.ndarray, " n"], size: Size) -> None:
    """Raise a ValueError unless pycocotools can draw a polygon: for what lies far outside, its numbers are too small.

    Args:
        polygon: x, y, x, y, …
        size: Height and width of the image.
    """
    if len(polygon) % 2 or not np.isfinite(polygon).all():
        raise ValueError(
            f"a polygon must be an even number of finite coordinates [x, y, x, y, …], got {len(polygon)} "
            f"numbers, {shown(polygon[:6].tolist())}."
        )
    for axis, numbers, length in (("x", polygon[::2], size[1]), ("y", polygon[1::2], size[0])):
        low, high = float(numbers.min(initial=0)), float(numbers.max(initial=0))
        if low < -length or high > 2 * length:
            raise ValueError(
                f"a polygon has {axis} = {low if low < -length else high}, too far outside of the image of "
                f"{size[0]}x{size[1]} (height x width): {axis} must be from {-length} to {2 * length}, in pixels."
            )


def run_lengths_in(segmentation: Any) -> tuple[Size, bytes | Int64[np.ndarray, " r"]]:
    """Return the height and width that run lengths say they have, and their counts: compressed, or numbers.

    Raises:
        ValueError: When one of them is missing or of another kind.
    """
    size, counts = value_of(segmentation, "size"), value_of(segmentation, "counts")
    if not isinstance(size, list) or len(size) != 2:
        raise ValueError(f"size must be [height, width], got {shown(size)}")
    height, width = (whole_number(length, "size", *INT32) for length in size)
    if isinstance(counts, str | bytes):
        return (height, width), counts.encode("utf-8", "replace") if isinstance(counts, str) else counts
    if not isinstance(counts, list):
        raise ValueError(f"counts must be a text or a list of whole numbers, got {shown(counts)}")
    try:
        numbers = array("q", counts)
    except (TypeError, OverflowError):  # there are floats, such as 3.0, or what is no number
        numbers = array("q", [whole_number(count, "counts") for count in counts])
    return (height, width), np.array(numbers, dtype=np.int64)


def _check_outlines(polygons: Sequence[Float64[np.ndarray, " n"]]) -> None:
    edges = [np.abs(np.diff(points, axis=0, append=points[:1])) for points in (p.reshape(-1, 2) for p in polygons)]
    length = sum(int(edge.max(axis=1).sum()) + len(edge) for edge in edges)
    if length > LONGEST_OUTLINE:
        raise ValueError(
            f"the outlines of its polygons are {length} pixels long, but may be {LONGEST_OUTLINE}: give fewer points, "
            "or run lengths {size, counts}."
        )


def _unpack_runs(runs: bytes, size: Size) -> dict[str, Any]:
    header = array("i")
    length = 3 * header.itemsize
    header.frombytes(runs[:length])
    if tuple(header[:2]) != tuple(size):
        raise ValueError(f"run lengths are of size {list(header[:2])}, but the image is {list(size)} (height, width).")
    counts = runs[length:]
    return {"size": list(size), "counts": np.frombuffer(counts, np.int64) if header[2] == _NUMBERS else counts}
