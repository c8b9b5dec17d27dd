# SPDX-License-Identifier: Apache-2.0
"""Pascal VOC's PNG files of classes and of objects in, as palette images or in colours; targets out."""

from collections.abc import Collection
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Int32
from PIL import Image

from unisegment.data.annotated_images import check_size, distinct_ids
from unisegment.data.problems import Problem
from unisegment.data.reading.label_maps import LabelMaps, Pairs, numbers_of
from unisegment.data.reading.mask_files import open_mask
from unisegment.ops.masks import rgb_to_ids
from unisegment.structures import Category

MOST_CLASSES = 2**15
"""More ids than that do not go into a map together with objects."""

Color: TypeAlias = tuple[int, int, int]

_DIVISOR = 2**16
_VOID = -1
_VOID_NUMBERS = (_VOID, 255, 65535)
_BLACK = (0, 0, 0)


def voc_color(number: int) -> Color:
    """Return red, green and blue of a number from 0 to 255 in VOC's palette.

    Source:
        VOClabelcolormap of the development kit: from the lowest on, the bits of the number go to red, green and blue in
        turn, and there to the highest bit that is left.
    """
    red, green, blue = (
        sum((number >> 3 * place + channel & 1) << 7 - place for place in range(8)) for channel in range(3)
    )
    return red, green, blue


class VocMaps(LabelMaps):
    """Images with a PNG file of classes each, and perhaps one of objects, in the order of their names.

    A pixel holds the id of its class and the number of its object in palette and grey images; in others, colours stand
    for these. 0 and black are no object, 255 and its colour in VOC's palette are void. An object is of the class that
    most of its pixels have. What is of a thing's class, but of no object, is a crowd.

    Args:
        pairs: The images and their PNG files of classes.
        object_dir: Folder of the PNG files of objects, which have the same names; None means that there are none.
        categories: The labels, with their colours in the PNG files.
        void_ids: Ids that are void even if they are those of categories, which are then no labels.

    Raises:
        ValueError: When there are no files, or no labels.
    """

    def __init__(
        self, pairs: Pairs, object_dir: Path | None, categories: list[Category], *, void_ids: Collection[int] = ()
    ) -> None:
        divisor = None if object_dir is None else _DIVISOR
        super().__init__(pairs, categories, void=_VOID_NUMBERS, label_divisor=divisor, void_ids=void_ids)
        self.object_dir = object_dir
        self._num_listed = len(categories)
        self._id_of_color = {_BLACK: 0, voc_color(255): _VOID} | {item.color: item.id for item in categories}
        self._thing_ids = [item.id for item in categories if item.is_thing]

    @property
    def id_factor(self) -> int:
        """1: objects have a PNG file of their own."""
        return 1

    def id_map(self, index: int) -> Int32[np.ndarray, "h w"]:
        """Return the id of the class of each pixel, or 65536 times the id plus the number of the object."""
        class_file = self.map_dir / self._map_files[index]
        classes = self._classes(class_file)
        if self.object_dir is None:
            return classes
        object_file = self.object_dir / self._map_files[index]
        objects = self._objects(object_file)
        check_size(object_file, objects.shape, classes.shape, class_file)
        class_of = self._classes_of(objects, classes, object_file)
        return np.where(objects > 0, class_of[objects] * _DIVISOR + objects, np.where(objects < 0, _VOID, classes))

    def _classes(self, file: Path) -> Int32[np.ndarray, "h w"]:
        stored = open_mask(file, self.reading)
        codes = _color_codes(stored)
        classes = _numbers(stored, file) if codes is None else _looked_up(codes, self._id_of_color, file)
        unknown = sorted(distinct_ids(classes) - {*range(self._num_listed), *_VOID_NUMBERS})
        if unknown:
            detail = (
                f"its pixels have the numbers {unknown[:5]}, but classes are 0 to {self._num_listed - 1}; 255 is void."
            )
            raise Problem("unknown-id", str(file), detail).error()
        return classes

    def _objects(self, file: Path) -> Int32[np.ndarray, "h w"]:
        """Return the number of the object of each pixel: 0 is none, -1 is void."""
        stored = open_mask(file, self.reading)
        codes = _color_codes(stored)
        if codes is None:
            numbers = _numbers(stored, file)
            if not 0 <= numbers.min() <= numbers.max() < _DIVISOR:
                detail = f"its pixels have numbers from {numbers.min()} to {numbers.max()}, but objects are 1 to 65534."
                raise Problem("unknown-id", str(file), detail).error()
            return np.where(np.isin(numbers, _VOID_NUMBERS), _VOID, numbers)
        colors = [_color_of(code) for code in sorted(distinct_ids(codes))]
        number_of = {color: number for number, color in enumerate(colors, 1)} | {_BLACK: 0, voc_color(255): _VOID}
        return _looked_up(codes, number_of, file)

    def _classes_of(
        self, objects: Int32[np.ndarray, "h w"], classes: Int32[np.ndarray, "h w"], file: Path
    ) -> Int32[np.ndarray, " n"]:
        """Return the class of each object, by its number."""
        class_of = np.full(max(int(objects.max()), 0) + 1, _VOID, dtype=np.int32)
        is_counted = (objects > 0) & np.isin(classes, self._thing_ids)
        pairs, counts = np.unique(
            objects[is_counted].astype(np.int64) * MOST_CLASSES + classes[is_counted], return_counts=True
        )
        order = counts.argsort(kind="stable")  # the most frequent last, so that it stays
        class_of[pairs[order] // MOST_CLASSES] = pairs[order] % MOST_CLASSES
        without = np.argwhere((objects > 0) & (class_of[objects] < 0))
        if len(without):
            row, column = without[0].tolist()
            detail = (
                f"the object at x = {column}, y = {row} has no class: the file of classes shows background or void "
                "alone where it is. Correct one of the files."
            )
            raise Problem("unlisted-segment", str(file), detail).error()
        return class_of


def _numbers(stored: Image.Image, file: Path) -> Int32[np.ndarray, "h w"]:
    try:
        return numbers_of(stored)
    except ValueError as error:
        raise Problem("label-map-channels", str(file), str(error)).error() from error


def _color_codes(stored: Image.Image) -> Int32[np.ndarray, "h w"] | None:
    """Return red + 256 green + 65536 blue of an image in colours; None where its numbers count."""
    return rgb_to_ids(np.asarray(stored.convert("RGB"))) if stored.mode in ("RGB", "RGBA") else None


def _color_of(code: int) -> Color:
    return code & 255, code >> 8 & 255, code >> 16


def _looked_up(codes: Int32[np.ndarray, "h w"], number_of: dict[Color, int], file: Path) -> Int32[np.ndarray, "h w"]:
    known = rgb_to_ids(np.array([[*number_of]], dtype=np.uint8))[0]
    order = known.argsort()
    places = np.searchsorted(known[order], codes).clip(max=len(order) - 1)
    unknown = sorted(distinct_ids(codes) - set(known.tolist()))
    if unknown:
        detail = (
            f"its pixels have the colours {', '.join(map(str, map(_color_of, unknown[:5])))} (red, green, blue), which "
            "no class has: list them in labelmap.txt."
        )
        raise Problem("unknown-id", str(file), detail).error()
    return np.array([*number_of.values()], dtype=np.int32)[order][places]
