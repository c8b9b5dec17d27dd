# SPDX-License-Identifier: Apache-2.0
"""The sizes of an image processor: what `size` and `pad_size` mean, and the sizes of results."""

from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from unisegment.data.reading.image_reading import as_list, channels_last, fetched, to_numpy
from unisegment.data.transforms.resizing import shortest_edge_size
from unisegment.ops.image_opening import open_image
from unisegment.ops.json_values import shown
from unisegment.ops.limits import MAX_FRAME, MAX_PIXELS, MAX_SIDE
from unisegment.ops.orientation import upright_size
from unisegment.ops.value_kinds import require, whole
from unisegment.types import Size

_KEYS = ("shortest_edge", "longest_edge", "height", "width", "max_height", "max_width")


class SizeKeys(dict[str, int]):
    """A size by its keys, which are attributes, too: those that it has not are None, as in transformers' SizeDict."""

    def __getattr__(self, name: str) -> int | None:
        if name not in _KEYS:
            raise AttributeError(f"A size has no {name!r}, only {', '.join(_KEYS)}.")
        return self.get(name)

    def of(self, size: Size) -> Size:
        """Return the height and width that an image of a height and width is resized to.

        Raises:
            ValueError: When these are too many pixels, see `unisegment.ops.limits`.
        """
        resized = self._of(size)
        _require_pixels(resized, "size")
        return resized

    def _of(self, size: Size) -> Size:
        if "height" in self:
            return self["height"], self["width"]
        if "shortest_edge" in self:
            return shortest_edge_size(size, self["shortest_edge"], self.get("longest_edge"))
        scale = min(self["max_height"] / size[0], self["max_width"] / size[1])
        # Rounded down as in transformers.
        return max(int(size[0] * scale), 1), max(int(size[1] * scale), 1)


def size_keys(size: Any, longest_edge: int | None, name: str = "size") -> SizeKeys:
    """Return a size by its keys.

    Args:
        size: A mapping; a number, which means `shortest_edge`; or a pair (height, width).
        longest_edge: What goes with a `shortest_edge` alone; None is no limit.
        name: What it is called in errors.

    Raises:
        ValueError: When it is none of these, or beyond the limits of `unisegment.ops.limits`.
    """
    given = {key: side for key, side in _named_sides(size).items() if side is not None}
    if longest_edge is not None and "shortest_edge" in given:
        given = {"longest_edge": longest_edge} | given
    known = ("shortest_edge", "longest_edge"), ("shortest_edge",), ("height", "width"), ("max_height", "max_width")
    if set(given) not in map(set, known):
        raise ValueError(
            "A size must be `shortest_edge` with or without `longest_edge`, `height` and `width`, or `max_height` and "
            f"`max_width`, each at least 1, got {name}={shown(size)}."
        )
    for key, side in given.items():
        if isinstance(side, float) and side.is_integer():
            given[key] = side = int(side)
        is_open = key in ("longest_edge", "max_height", "max_width")
        require(f"{name}.{key}", side, whole(1, MAX_FRAME if is_open else MAX_SIDE))
    keys = SizeKeys({key: int(side) for key, side in given.items()})
    if "height" in keys:
        _require_pixels((keys["height"], keys["width"]), name)
    return keys


def _named_sides(size: Any) -> dict[Any, Any]:
    if isinstance(size, Integral) and not isinstance(size, bool):
        return {"shortest_edge": size}
    if isinstance(size, list | tuple):
        return dict(zip(("height", "width"), size, strict=True)) if len(size) == 2 else {}
    try:
        return dict(size)
    except (TypeError, ValueError):
        return {}


def _require_pixels(size: Size, name: str) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"{name}: {size[0]} x {size[1]} pixels, expected at most {MAX_PIXELS} in all.")


def sizes_of_results(target_sizes: Any, channels: int) -> Any:
    """Return the height and width of each result, of sizes or of the images themselves, upright as they were prepared.

    Args:
        target_sizes: An array (b 2), or a list of sizes and of images in any form that `read_image` takes; also one
            image, or an array with a batch of them. None stays None.
        channels: How many channels arrays have that are not grey.

    Raises:
        ValueError: When an image is none.
    """
    is_table = isinstance(target_sizes, Tensor | np.ndarray) and target_sizes.ndim <= 2
    if target_sizes is None or is_table:
        return target_sizes
    return [_size_of_result(fetched(item), channels) for item in as_list(target_sizes, ndim=3)]


def _size_of_result(item: Any, channels: int) -> Any:
    if isinstance(item, Path):
        item = open_image(item)
    if isinstance(item, Image.Image):
        return upright_size(item)
    if isinstance(item, Tensor | np.ndarray) and item.ndim > 1:
        return channels_last(to_numpy(item), None, channels).shape[:2]
    return item
