# SPDX-License-Identifier: Apache-2.0
"""Mask logits of the network in, mask logits of one small tile of the original image out, and bounds before that.

On a CPU most of the work of post-processing is left out: few queries matter in a tile, and the grid of the network
tells which. A tile stays in cache from its logits to its result. Axes: q query, t tile, n query that is asked for,
h w mask grid or, where said, the tile.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from unisegment.postprocessing.resize import MAX_ELEMENTS, Frame, rows_between
from unisegment.types import Size

ROWS, COLUMNS = 64, 128
"""Pixels of a tile, where the bound on what is held allows: the logits of a hundred queries fit a core's cache."""
PART = 16
"""Side in pixels of the squares that give closer bounds than a tile."""
SLACK = 1e-4
"""How far rounding may take a logit or a score out of its bounds, as a share of it: float32 rounds a term to 6e-8."""


class Bounds(NamedTuple):
    """Between which values the logits of each query lie in each tile; NaN where one of the grid's is NaN."""

    lowest: Float32[Tensor, "*t q"]
    highest: Float32[Tensor, "*t q"]


class Tile(NamedTuple):
    """Which pixels of the result a tile has."""

    rows: slice
    columns: slice

    @property
    def size(self) -> Size:
        """Its height and width."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


class Tiles:
    """The tiles of an image's result, row by row.

    The numbers are those of `resize_queries` up to rounding: the steps from the grid to the canvas, to the image and to
    the result are one product in each direction.

    Args:
        mask_logits: Logits on the mask grid, of any precision, on the CPU.
        queries: Which of them are looked at; they are counted anew, from 0.
        frame: Place of the image and size of the result.
        max_elements: Numbers to hold at a time; one row of a tile may exceed it. None takes what suits the CPU.
    """

    def __init__(
        self,
        mask_logits: Float[Tensor, "_ h w"],
        queries: Int64[Tensor, " q"],
        frame: Frame,
        max_elements: int | None = None,
    ) -> None:
        self._grid, self._queries = mask_logits, queries
        num_queries, (grid_height, grid_width) = len(queries), mask_logits.shape[1:]
        rows = MAX_ELEMENTS.on(mask_logits.device, max_elements) // (max(num_queries, 1) * COLUMNS)
        (image_height, image_width), (height, width), stride = frame
        self._lengths = (
            (grid_height, grid_height * stride, image_height, height),
            (grid_width, grid_width * stride, image_width, width),
        )
        self._down = _steps(*self._lengths[0], min(max(rows, 1), ROWS))
        self._across = _steps(*self._lengths[1], COLUMNS)
        # Used again for each tile: new memory costs more than the arithmetic.
        self._wide, self._logits = (
            torch.empty(num_queries * max(rows) * max(len(across.weights) for across in self._across))
            for rows in zip(*[down.weights.shape[::-1] for down in self._down], strict=True)
        )
        self.places = [Tile(down.new, across.new) for down, across in product(self._down, self._across)]

    def bounds(self) -> Bounds:
        """Return the least and the greatest of the grid's logits that each tile is made of, with room for rounding."""
        return Bounds(*(part.flatten(0, 1) for part in self._bounds(self._down, self._across)))

    def bounds_of_parts(self, tile: Tile) -> Bounds:
        """Return the same for squares of `PART` pixels in the rows of a tile, over the whole width."""
        down, across = self._parts
        strips = slice(tile.rows.start // PART, -(-tile.rows.stop // PART))
        return self._bounds(down[strips], across)

    @cached_property
    def _parts(self) -> tuple[list["_Step"], list["_Step"]]:
        return _steps(*self._lengths[0], PART), _steps(*self._lengths[1], PART)

    def _bounds(self, down: Sequence["_Step"], across: Sequence["_Step"]) -> Bounds:
        low, high = torch.empty(2, len(down), len(self._queries), self._grid.shape[2])
        for step, *least_and_greatest in zip(down, low, high, strict=True):
            strip = self._grid[:, step.old][self._queries].float()
            torch.aminmax(strip, dim=1, out=tuple(least_and_greatest))
        low, high = low.transpose(1, 2), high.transpose(1, 2)
        # All have as many columns as the widest: the last one again and again.
        columns = torch.arange(max(step.weights.shape[1] for step in across))
        starts, ends = (
            torch.tensor(places) for places in zip(*[(s.old.start, s.old.stop) for s in across], strict=True)
        )
        columns = torch.minimum(starts[:, None] + columns, ends[:, None] - 1)
        lowest, highest = _finite(low[:, columns].amin(2)), _finite(high[:, columns].amax(2))
        slack = SLACK * torch.maximum(lowest.abs(), highest.abs())
        return Bounds(lowest - slack, highest + slack)

    def logits(self, number: int, queries: Int64[Tensor, " n"]) -> Float32[Tensor, "n _ _"]:
        """Return the logits of some queries in a tile, in memory that may be overwritten and is at the next call.

        Args:
            number: Place of the tile in `places`.
            queries: Which queries, each once.
        """
        down, across = self._down[number // len(self._across)], self._across[number % len(self._across)]
        part = _finite(self._grid[:, down.old, across.old][self._queries[queries]].float())
        # Under autocast the products would have a precision of two or three digits.
        with torch.autocast("cpu", enabled=False):
            wide = _shaped(self._wide, len(part), part.shape[1], len(across.weights))
            torch.mm(part.flatten(0, 1), across.weights.T, out=wide.flatten(0, 1))
            logits = _shaped(self._logits, len(part), len(down.weights), len(across.weights))
            return torch.bmm(down.weights.expand(len(part), -1, -1), wide, out=logits)


def _finite(logits: Float32[Tensor, "*_"]) -> Float32[Tensor, "*_"]:
    """Return logits that are infinite as the largest numbers: a weight of 0 makes no number of infinity."""
    return logits.clamp_(min=torch.finfo(torch.float32).min, max=torch.finfo(torch.float32).max)


def _shaped(memory: Float32[Tensor, " _"], *shape: int) -> Float32[Tensor, "n h w"]:
    """Return the first part of some memory in a shape."""
    return memory[: math.prod(shape)].view(shape)


class _Step(NamedTuple):
    """How a tile is made of the grid in one direction: its pixels, the grid's, and the weights of these."""

    new: slice
    old: slice
    weights: Float32[Tensor, "new old"]


def _steps(grid: int, canvas: int, image: int, target: int, side: int) -> list[_Step]:
    """Return the steps of all tiles in one direction, from lengths in pixels."""
    cpu = torch.device("cpu")
    to_canvas, (upper, lower, weight) = rows_between(grid, canvas, cpu), rows_between(image, target, cpu)
    places = torch.stack(
        [to_canvas.upper[upper], to_canvas.lower[upper], to_canvas.upper[lower], to_canvas.lower[lower]]
    )
    of_lower = weight.double()
    inner, outer = to_canvas.weight[upper].double(), to_canvas.weight[lower].double()
    shares = torch.stack(
        [(1 - of_lower) * (1 - inner), (1 - of_lower) * inner, of_lower * (1 - outer), of_lower * outer]
    )
    # What has no weight is not looked at.
    places = torch.where(shares > 0, places, places[0])
    steps = []
    for first in range(0, target, side):
        new = slice(first, min(first + side, target))
        start, end = int(places[:, new].min()), int(places[:, new].max()) + 1
        weights = torch.zeros(new.stop - first, end - start, dtype=torch.float64)
        weights.scatter_add_(1, (places[:, new] - start).T, shares[:, new].T)
        steps.append(_Step(new, slice(start, end), weights.float()))
    return steps
