# SPDX-License-Identifier: Apache-2.0
"""A COCO file in, a corrected one out, entry by entry, so that memory does not grow with the shapes.

The file is gone through twice: first for ids, names and sizes, then to write each entry.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from PIL import Image

from unisegment.checking.fixed_lists import FixedLists, FreshIds
from unisegment.checking.fixed_shapes import fix_shape
from unisegment.data.reading.image_finding import ImageFinder
from unisegment.data.reading.image_reading import Exif
from unisegment.data.reading.packed_columns import PackedTexts
from unisegment.ops.json_reading import iterate_json_lists
from unisegment.ops.json_values import read_id, read_whole_number, shown, value_of
from unisegment.ops.orientation import exif_orientation, turned_size
from unisegment.types import Size

Parallel = Callable[[Callable[[int], Any], int], Iterator[tuple[int, Any]]]
"""Calls a function with the numbers below another one in several processes, and gives what each returned."""


class ImageFiles(NamedTuple):
    """Where images are, and how they are read."""

    folder: Path
    exif: Exif


class Annotations(Protocol):
    """What becomes of the entries of `annotations` in a format."""

    def look_at(self, place: int, entry: Any) -> None:
        """Take an entry, when all are looked at."""

    def finish(self, parallel: Parallel) -> None:
        """Take that all entries and images are known."""

    def fix(self, place: int, entry: Any) -> dict[str, Any] | None:
        """Return what is written of an entry; None for nothing."""


def fix_file(
    source: Path,
    target: Path,
    lists: FixedLists,
    annotations: Annotations,
    images: ImageFiles,
    parallel: Parallel,
) -> None:
    """Write a corrected file.

    Args:
        source: The JSON file.
        target: Where to write.
        lists: For its categories and images.
        annotations: For its annotations.
        images: Where they are.
        parallel: Runs what takes time.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When it is not valid JSON.
    """
    for key, place, entry in _entries(source):
        if key == "categories":
            lists.look_at_category(entry)
        elif key == "images":
            lists.look_at_image(entry)
        elif key == "annotations":
            annotations.look_at(place, entry)
    lists.finish()
    names = ["" if image is None else image[1] for image in lists.images]
    finder = ImageFinder(images.folder, PackedTexts(names))
    for place, size in parallel(partial(_size_of, finder, names, images.exif), len(names)):
        if isinstance(size, tuple):
            lists.sizes[place] = size
    annotations.finish(parallel)
    fixes = {"categories": lists.fix_category, "images": lists.fix_image, "annotations": annotations.fix}
    _write_lists(source, target, fixes)


class InstanceAnnotations:
    """What becomes of the objects of a file in COCO's instance format.

    Args:
        lists: Its categories and images.
    """

    def __init__(self, lists: FixedLists) -> None:
        self._lists = lists
        self._fresh = FreshIds()
        self._seen: set[Any] = set()

    def look_at(self, place: int, entry: Any) -> None:
        """Take an entry, when all are looked at."""
        self._fresh.see(entry.get("id") if isinstance(entry, dict) else None)

    def finish(self, parallel: Parallel) -> None:
        """Take that all entries and images are known."""

    def fix(self, place: int, entry: Any) -> dict[str, Any] | None:
        """Return what is written of an entry; None for nothing."""
        name = f"annotations[{place}]"
        try:
            image_id, category_id = read_id(entry, "image_id"), read_whole_number(entry, "category_id")
            segmentation = value_of(entry, "segmentation")
        except ValueError as error:
            self._lists.add("wrong-structure", name, f"left out: {error}")
            return None
        name = f"{name} (id {shown(entry.get('id'))}, image {image_id})"
        image = self._lists.place_of(image_id)
        if image is None or image not in self._lists.sizes:
            self._lists.add("unknown-image", name, f"left out: there is no image {image_id}")
            return None
        if category_id not in self._lists.category_ids:
            self._lists.add("unknown-category", name, f"left out: there is no category {category_id}")
            return None
        shape = fix_shape(segmentation, self._lists.sizes[image])
        for kind, change in shape.changes:
            self._lists.add(kind, name, change)
        if shape.segmentation is None:
            return None
        fixed = self._lists.fix_flag({**entry, "segmentation": shape.segmentation}, "iscrowd", name)
        if shape.box is not None:
            fixed |= {"bbox": shape.box, "area": shape.area}
        return self._with_id(fixed, name)

    def _with_id(self, entry: dict[str, Any], name: str) -> dict[str, Any]:
        number = entry.get("id")
        if not isinstance(number, int | float | str):
            return entry
        if number in self._seen:
            entry["id"] = self._fresh.next()
            self._lists.add("duplicate-annotation-id", name, f"id {number!r} became {entry['id']}")
        self._seen.add(number)
        return entry


def _size_of(finder: ImageFinder, names: Sequence[str], exif: Exif, place: int) -> Size | None:
    """Return the height and width of an image as it is read; None where it cannot be."""
    file = finder.find(names[place])
    if not file.is_file():
        return None
    try:
        with Image.open(file) as image:
            size = (image.height, image.width)
            return turned_size(size, exif_orientation(image)) if exif == "upright" else size
    except Exception:  # of any kind: see `open_image`
        return None


def _entries(file: Path, others: dict[str, Any] | None = None) -> Iterator[tuple[str, int, Any]]:
    places: Counter[str] = Counter()
    for key, entry in iterate_json_lists(file, others):
        yield key, places[key], entry
        places[key] += 1


def _write_lists(source: Path, target: Path, fixes: Mapping[str, Callable[[int, Any], dict[str, Any] | None]]) -> None:
    others: dict[str, Any] = {"info": {}}
    written = set()
    with target.open("w", encoding="utf-8") as stream:
        stream.write("{")
        for key, entries in groupby(_entries(source, others), key=itemgetter(0)):
            written.add(key)
            stream.write(f"{json.dumps(key)}: [")
            separator = "\n"
            for _, place, entry in entries:
                fixed = fixes[key](place, entry) if key in fixes else entry
                if fixed is not None:
                    stream.write(separator + json.dumps(fixed))
                    separator = ",\n"
            stream.write("\n],\n")
        # Lists without entries, and what is no list.
        stream.write(json.dumps(others | {key: [] for key in fixes if key not in written}).removeprefix("{"))
