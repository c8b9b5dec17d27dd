# SPDX-License-Identifier: Apache-2.0
"""The polygons and run lengths of a whole data set in a few arrays; one mask at a time comes out.

The numbers of COCO's polygons have two decimals. Kept as whole hundredths of 16 bits they take a quarter of the memory
and come back exactly; where a block of numbers has more decimals, it is kept as it is.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from pycocotools import mask as coco_mask

from unisegment.data.reading.packed_columns import smallest
from unisegment.ops.json_values import INT32, shown, value_of, whole_number
from unisegment.ops.rle import pixels_of_rle, run_lengths
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


class ShapeError(ValueError):
    """A shape that cannot be drawn.

    Args:
        message: What is wrong with it.
        kind: What `unisegment.data.problems` calls that.
    """

    def __init__(self, message: str, kind: str = "bad-polygon") -> None:
        super().__init__(message)
        self.kind = kind


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
            self._append_polygons(segmentation)
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

    def check(self, index: int, size: Size) -> None:
        """Look whether a shape can be drawn.

        Args:
            index: Place of the shape.
            size: Height and width of the image.

        Raises:
            ShapeError: When a polygon has no even number of coordinates, or some that are not finite or further outside
                than the image is wide or high; when outlines are too long; when run lengths are broken, or those of
                another size.
        """
        runs = self.runs(index)
        if runs is not None:
            _read_runs(runs, size, lambda rle: run_lengths(rle["counts"], size))
        else:
            _check_polygons(self.polygons(index), size)

    def polygons(self, index: int) -> list[Float64[np.ndarray, " n"]]:
        """Return the numbers of each polygon of a shape; none where it has run lengths."""
        return [self._polygon(place) for place in range(*self._first_polygon[index : index + 2])]

    def runs(self, index: int) -> dict[str, Any] | None:
        """Return the run lengths of a shape, `size` and `counts`, a text or an array; None where it has polygons."""
        start, end = self._run_bounds[index : index + 2]
        return _unpack_runs(bytes(self._runs[start:end])) if start < end else None

    def pixels(self, index: int, size: Size) -> Int64[np.ndarray, " p"]:
        """Return the pixels inside a shape, each once, as places in the image read row by row.

        Polygons of fewer than three points cover nothing. What of them is outside of the image is cut off.

        Args:
            index: Place of the shape.
            size: Height and width of the image.

        Raises:
            ShapeError: See `check`.
        """
        runs = self.runs(index)
        if runs is not None:
            return _read_runs(runs, size, pixels_of_rle)
        polygons = self.polygons(index)
        _check_polygons(polygons, size)
        drawn = [polygon for polygon in polygons if len(polygon) >= 6]
        if not drawn:
            return np.zeros(0, dtype=np.int64)
        rles = coco_mask.frPyObjects([polygon.tolist() for polygon in drawn], *size)
        # To merge them one by one would take a time that grows with the square of their number.
        while len(rles) > 1:
            rles = [
                coco_mask.merge(rles[start : start + _MERGED_AT_ONCE]) for start in range(0, len(rles), _MERGED_AT_ONCE)
            ]
        return pixels_of_rle(rles[0])

    def _append_polygons(self, polygons: list[Any]) -> None:
        num_numbers, num_polygons = len(self._last_block), len(self._polygon_bounds)
        try:
            for polygon in polygons:
                _add_numbers(polygon, self._last_block)
                self._polygon_bounds.append(self._block_starts[-1] + len(self._last_block))
        except ValueError:
            del self._last_block[num_numbers:], self._polygon_bounds[num_polygons:]
            raise

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
    numbers = array("d")
    _add_numbers(polygon, numbers)
    return np.array(numbers)


def polygon_area(points: Float64[np.ndarray, "n 2"]) -> float:
    """Return the pixels in a polygon, by the shoelace formula."""
    # From the first point, so that large coordinates lose nothing.
    x, y = (points - points[:1]).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _add_numbers(polygon: Any, numbers: "array[float]") -> None:
    if not isinstance(polygon, list):
        raise ValueError(f"segmentation must be {SHAPE}, got a polygon {shown(polygon)}")
    try:
        numbers.fromlist(polygon)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"a polygon must be a list of numbers [x, y, x, y, …], got {shown(polygon)}") from error


def _check_polygons(polygons: Sequence[Float64[np.ndarray, " n"]], size: Size) -> None:
    for polygon in polygons:
        check_polygon(polygon, size)
    drawn = [polygon for polygon in polygons if len(polygon) >= 6]
    # An edge is at most three images long, so that hardly any shape has to be measured.
    if 3 * max(size) * sum(map(len, drawn)) > LONGEST_OUTLINE:
        _check_outlines(drawn)


def check_polygon(polygon: Float64[np.ndarray, " n"], size: Size) -> None:
    """Look whether pycocotools can draw a polygon: for what lies far outside, its numbers are too small.

    Args:
        polygon: x, y, x, y, …
        size: Height and width of the image.

    Raises:
        ShapeError: When it cannot.
    """
    if len(polygon) % 2 or not np.isfinite(polygon).all():
        raise ShapeError(
            f"a polygon must be an even number of finite coordinates [x, y, x, y, …], got {len(polygon)} "
            f"numbers, {shown(polygon[:6].tolist())}."
        )
    for axis, numbers, length in (("x", polygon[::2], size[1]), ("y", polygon[1::2], size[0])):
        low, high = float(numbers.min(initial=0)), float(numbers.max(initial=0))
        if low < -length or high > 2 * length:
            raise ShapeError(
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
        raise ShapeError(
            f"the outlines of its polygons are {length} pixels long, but may be {LONGEST_OUTLINE}: give fewer points, "
            "or run lengths {size, counts}."
        )


def _unpack_runs(runs: bytes) -> dict[str, Any]:
    header = array("i")
    length = 3 * header.itemsize
    header.frombytes(runs[:length])
    height, width, kind = header
    counts = runs[length:]
    return {"size": [height, width], "counts": np.frombuffer(counts, np.int64) if kind == _NUMBERS else counts}


def _read_runs(runs: dict[str, Any], size: Size, read: Callable[[dict[str, Any]], Any]) -> Any:
    if runs["size"] != list(size):
        detail = f"run lengths are of size {runs['size']}, but the image is {list(size)} (height, width)."
        raise ShapeError(detail, "wrong-run-length-size")
    try:
        return read(runs)
    except ValueError as error:
        raise ShapeError(str(error), "bad-run-lengths") from error
