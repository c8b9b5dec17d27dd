# SPDX-License-Identifier: Apache-2.0
"""Categories and images of a COCO file in, the ids and sizes that they should have out; and the list of all changes."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TextIO, TypeVar

from unisegment.data.annotated_images import read_category_id
from unisegment.data.categories import category_name
from unisegment.data.reading.coco_lists import read_size
from unisegment.ops.json_values import read_id, read_text, shown, value_of
from unisegment.types import Size

T = TypeVar("T")

_LARGEST_ID = 2**53
"""Up to which all programs read whole numbers in JSON exactly."""


class Changes:
    """All changes, counted by the kind of problem that was fixed, and written to a file one by one.

    Args:
        stream: The file.
        file: What it will be called.
    """

    def __init__(self, stream: TextIO, file: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self._stream = stream
        self._file = file

    def add(self, kind: str, file: Path, entry: str, change: str) -> None:
        """Note that an entry of a file was changed."""
        self._stream.write(",\n" if self.counts else "\n")
        json.dump({"kind": kind, "file": str(file), "entry": entry, "change": change}, self._stream)
        self.counts[kind] += 1
        self.first.setdefault(kind, f"{entry}: {change}")

    def table(self) -> str:
        """Return the changes in words, one line for each kind and its first entry."""
        lines = [f"  {kind:24} {count:>7,}  {self.first[kind]}" for kind, count in self.counts.items()]
        number = self.counts.total()
        last = f"{number:,} change{'' if number == 1 else 's'} in the copy, listed in {self._file}"
        return "\n".join([*lines, last])


class FixedLists:
    """What becomes of the categories and images of a file. All are looked at first, then each is fixed.

    Args:
        file: The JSON file.
        changes: Where to note what is changed.
    """

    def __init__(self, file: Path, changes: Changes) -> None:
        self.sizes: dict[int, Size] = {}
        """Height and width of images by their place in the list: what their files say, or else what is listed."""
        self.images: list[tuple[int | str, str] | None] = []
        """Id and file name of each image, None where an entry has none."""
        self.category_ids: set[int] = set()
        self._categories: list[tuple[int, str] | None] = []
        self._new_ids: dict[str, list[Any]] = {}
        self._places: defaultdict[int | str, list[int]] = defaultdict(list)
        self._file = file
        self._changes = changes

    def look_at_category(self, entry: Any) -> None:
        """Take an entry of `categories`."""
        known = read_or_none(lambda: (read_category_id(entry), category_name(value_of(entry, "name"))))
        self._categories.append(known)
        if known is not None:
            self.category_ids.add(known[0])

    def look_at_image(self, entry: Any) -> None:
        """Take an entry of `images`."""
        known = read_or_none(lambda: (read_id(entry), read_text(entry, "file_name")))
        size = read_or_none(lambda: read_size(entry))
        place = len(self.images)
        self.images.append(known)
        if known is not None:
            self._places[known[0]].append(place)
        if size is not None and min(size) > 0:
            self.sizes[place] = size

    def finish(self) -> None:
        """Decide about ids when all entries are known."""
        self._new_ids = {"categories": _unique(self._categories), "images": _unique(self.images)}

    def place_of(self, image_id: int | str, file_name: str | None = None) -> int | None:
        """Return the place of the image that an annotation is of, None where there is none.

        Args:
            image_id: The id that the annotation names.
            file_name: Its PNG file, which tells images of one id apart.
        """
        places = [place for place in self._places.get(image_id, ()) if self._new_ids["images"][place] is not None]
        if file_name is not None:
            stem = PurePosixPath(file_name).stem
            places.sort(key=lambda place: PurePosixPath(self._name(place)).stem != stem)
        return places[0] if places else None

    def id_of(self, place: int) -> int | str:
        """Return the id that an image gets."""
        return self._new_ids["images"][place]

    def fix_category(self, place: int, entry: Any) -> dict[str, Any] | None:
        """Return what is written of an entry of `categories`; None for nothing."""
        fixed = self._with_new_id("categories", "duplicate-category-id", place, entry, self._categories)
        return None if fixed is None else self.fix_flag(fixed, "isthing", f"categories[{place}]")

    def fix_image(self, place: int, entry: Any) -> dict[str, Any] | None:
        """Return what is written of an entry of `images`; None for nothing."""
        fixed = self._with_new_id("images", "duplicate-image-id", place, entry, self.images)
        if fixed is None:
            return None
        name = f"images[{place}] ({self._name(place)})"
        if place not in self.sizes:
            self.add("wrong-structure", name, "left out: it has no height and width, and its file cannot be read")
            return None
        height, width = self.sizes[place]
        if (entry.get("height"), entry.get("width")) != (height, width):
            before = f"{shown(entry.get('height'))}x{shown(entry.get('width'))}"
            self.add("wrong-size", name, f"{before} became {height}x{width} (height x width), as its file is")
        return {**fixed, "height": height, "width": width}

    def fix_flag(self, entry: dict[str, Any], key: str, name: str) -> dict[str, Any]:
        """Return an entry whose flag is 0 or 1, if it has one."""
        value = entry.get(key)
        if key not in entry or (type(value) is int and value in (0, 1)):
            return entry
        self.add(f"odd-{key}", name, f"{key} {shown(value)} became {flag_of(value)}")
        return {**entry, key: flag_of(value)}

    def add(self, kind: str, entry: str, change: str) -> None:
        """Note a change of the file."""
        self._changes.add(kind, self._file, entry, change)

    def _with_new_id(
        self, key: str, kind: str, place: int, entry: Any, known: Sequence[tuple[Any, str] | None]
    ) -> dict[str, Any] | None:
        item, new_id = known[place], self._new_ids[key][place]
        if item is None:
            self.add("wrong-structure", f"{key}[{place}]", f"left out: {shown(entry)} lacks an id or a name")
            return None
        number, name = item
        if new_id == number:
            return dict(entry)
        change = f"left out: an entry before has the id {number!r} and this name"
        if new_id is not None:
            change = f"id {number!r} became {new_id!r}; what names {number!r} stays with the entry before that has it"
        self.add(kind, f"{key}[{place}] ({name})", change)
        return None if new_id is None else {**entry, "id": new_id}

    def _name(self, place: int) -> str:
        known = self.images[place]
        return "" if known is None else known[1]


def flag_of(value: Any) -> int:
    """Return what a flag most likely means: 1 for true, yes and numbers that are not 0, in texts, too; 0 for others."""
    text = str(value).strip().lower()
    if text in ("true", "yes"):
        return 1
    number = read_or_none(lambda: float(text))
    return int(number is not None and abs(number) > 0)


def read_or_none(read: Callable[[], T]) -> T | None:
    """Return what is read, None where it is not as it must be."""
    try:
        return read()
    except ValueError:
        return None


class FreshIds:
    """Numbers that no entry has as its id."""

    def __init__(self) -> None:
        self._largest = 0

    def see(self, number: Any) -> None:
        """Take an id that is used."""
        if isinstance(number, str) and number.isdecimal() and len(number) < 16:
            number = int(number)
        if isinstance(number, int) and number <= _LARGEST_ID:
            self._largest = max(self._largest, number)

    def next(self) -> int:
        """Return one that is not."""
        self._largest += 1
        return self._largest


def _unique(items: Sequence[tuple[Any, str] | None]) -> list[Any]:
    """Return the id that each item gets: the first of an id keeps it, others get new ones, and None those like it."""
    fresh = FreshIds()
    for item in items:
        fresh.see(item and item[0])
    names: dict[Any, set[str]] = {}
    new_ids: list[Any] = []
    for item in items:
        if item is None or item[1] in names.get(item[0], ()):
            new_ids.append(None)
            continue
        number, name = item
        new_id = number
        if number in names:
            new_id = fresh.next()
            new_id = str(new_id) if isinstance(number, str) else new_id
        names.setdefault(number, set()).add(name)
        new_ids.append(new_id)
    return new_ids
