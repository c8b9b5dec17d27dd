# SPDX-License-Identifier: Apache-2.0
"""The polygons and run lengths of a whole data set in a few arrays; one mask at a time comes out.

The numbers of COCO's polygons have two decimals. Kept as whole hundredths they take half the memory and come back
exactly; where a block of numbers has more decimals, it is kept as it is.
"""

from array import array
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped
from pycocotools import mask as coco_mask

from unisegment.types import Size

_BLOCK = 2**20


class PackedShapes:
    """A growing list of shapes, each a list of polygons or run lengths, as COCO's `segmentation` has them."""

    def __init__(self) -> None:
        # Numbers of all polygons one behind the other, in blocks; no polygon spans two of them.
        self._blocks: list[Shaped[np.ndarray, " n"]] = []
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
            KeyError, TypeError, ValueError: When it is neither.
        """
        if isinstance(segmentation, Mapping):
            self._append_runs(segmentation)
        else:
            for polygon in segmentation:
                self._last_block.extend(polygon)
                self._polygon_bounds.append(self._block_starts[-1] + len(self._last_block))
        self._first_polygon.append(len(self._polygon_bounds) - 1)
        self._run_bounds.append(len(self._runs))
        if len(self._last_block) >= _BLOCK:
            self._close_block()

    def run_lengths(self, index: int, size: Size) -> dict[str, Any]:
        """Return a shape as compressed run lengths.

        Polygons of fewer than three points cover nothing.

        Args:
            index: Place of the shape.
            size: Height and width of the image.

        Raises:
            ValueError: When a polygon has no even number of finite coordinates, or run lengths are those of another
                size.
        """
        runs = bytes(self._runs[self._run_bounds[index] : self._run_bounds[index + 1]])
        if runs:
            return _unpack_runs(runs, size)
        polygons = [self._polygon(place) for place in range(*self._first_polygon[index : index + 2])]
        for polygon in polygons:
            if len(polygon) % 2 or not np.isfinite(polygon).all():
                raise ValueError(
                    f"a polygon must be an even number of finite coordinates [x, y, x, y, …], got {len(polygon)} "
                    f"numbers, {polygon[:6].tolist()}…"
                )
        drawn = [polygon.tolist() for polygon in polygons if len(polygon) >= 6]
        if not drawn:
            return coco_mask.encode(np.zeros(size, dtype=np.uint8, order="F"))
        return coco_mask.merge(coco_mask.frPyObjects(drawn, *size))

    def _append_runs(self, segmentation: Mapping[str, Any]) -> None:
        size = array("i", segmentation["size"])
        counts = segmentation["counts"]
        if isinstance(counts, list):
            counts = coco_mask.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"]
        self._runs += size.tobytes() + (counts.encode("ascii") if isinstance(counts, str) else counts)

    def _close_block(self) -> None:
        block = np.array(self._last_block)
        hundredths = np.rint(block * 100)
        is_exact = (np.abs(hundredths) < 2**31) & (hundredths / 100 == block)
        self._blocks.append(hundredths.astype(np.int32) if is_exact.all() else block)
        self._block_starts.append(self._block_starts[-1] + len(block))
        self._last_block = array("d")

    def _polygon(self, place: int) -> Float64[np.ndarray, " n"]:
        start, end = self._polygon_bounds[place : place + 2]
        number = bisect_right(self._block_starts, start) - 1
        block = self._blocks[number] if number < len(self._blocks) else self._last_block
        numbers = np.asarray(block[start - self._block_starts[number] : end - self._block_starts[number]])
        return numbers / 100 if numbers.dtype == np.int32 else numbers


def _unpack_runs(runs: bytes, size: Size) -> dict[str, Any]:
    header = array("i")
    length = 2 * header.itemsize
    header.frombytes(runs[:length])
    if tuple(header) != tuple(size):
        raise ValueError(f"run lengths are of size {list(header)}, but the image is {list(size)} (height, width).")
    return {"size": list(size), "counts": runs[length:]}
