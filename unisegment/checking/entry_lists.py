# SPDX-License-Identifier: Apache-2.0
"""What the checks of all COCO files share: going through their lists, categories, images, and ids that repeat."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unisegment.data.annotated_images import read_category_id
from unisegment.data.categories import category_name
from unisegment.data.problems import CollectedProblems
from unisegment.data.reading.coco_lists import read_size
from unisegment.ops.json_reading import iterate_json_lists
from unisegment.ops.json_values import read_flag, read_id, read_text, value_of

_SHOWN = 5


def read_lists(
    file: Path, readers: Mapping[str, Callable[[int, Any], None]], needed: Iterable[str], findings: CollectedProblems
) -> None:
    """Hand each entry of the lists in a JSON file, with its place, to the reader of its list; note what is refused.

    Args:
        file: The JSON file.
        readers: What takes the entries of a list, by the key of the list.
        needed: Keys of the lists that must be there.
        findings: Where to note what is wrong.
    """
    places: Counter[str] = Counter()
    try:
        for key, entry in iterate_json_lists(file):
            place = places[key]
            places[key] += 1
            if key not in readers:
                continue
            try:
                readers[key](place, entry)
            except ValueError as error:
                findings.add("wrong-structure", file, f"{key}[{place}]: {error}")
    except FileNotFoundError as error:
        findings.add("no-data", file, str(error))
    except (ValueError, OSError) as error:
        findings.add("broken-json", file, str(error))
    else:
        missing = [key for key in needed if not places[key]]
        if missing:
            found = ", ".join(places) or "none"
            findings.add("wrong-structure", file, f"it must list {', '.join(missing)}; lists with entries: {found}")


def check_flag(entry: Mapping[str, Any], key: str, name: str, file: Path, findings: CollectedProblems) -> None:
    """Note what `read_flag` refuses of an entry called `name`."""
    try:
        read_flag(entry, key)
    except ValueError as error:
        findings.add(f"odd-{key}", file, f"{name}: {error}")


class CategoryList:
    """The categories of a file, checked.

    Args:
        file: The JSON file.
        findings: Where to note what is wrong.
    """

    def __init__(self, file: Path, findings: CollectedProblems) -> None:
        self.file = file
        self.names: dict[int, str] = {}
        self._findings = findings

    def add(self, place: int, entry: Mapping[str, Any]) -> None:
        """Take one entry of `categories`."""
        number, name = read_category_id(entry), category_name(value_of(entry, "name"))
        if number in self.names:
            detail = f"categories[{place}] {name!r} has the id {number} of {self.names[number]!r}"
            self._findings.add("duplicate-category-id", self.file, detail)
        elif name in self.names.values():
            self._findings.add("duplicate-category-name", self.file, f"categories[{place}] is another {name!r}")
        self.names.setdefault(number, name)
        check_flag(entry, "isthing", f"categories[{place}] {name!r}", self.file, self._findings)


class ImageList:
    """The images of a file, checked.

    Args:
        file: The JSON file.
        findings: Where to note what is wrong.
    """

    def __init__(self, file: Path, findings: CollectedProblems) -> None:
        self.file = file
        self.ids: list[int | str] = []
        self.files: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        self._findings = findings

    def add(self, place: int, entry: Mapping[str, Any]) -> None:
        """Take one entry of `images`."""
        number, file, size = read_id(entry), read_text(entry, "file_name"), read_size(entry)
        self.ids.append(number)
        self.files.append(file)
        self.sizes.append(size)

    def finish(self) -> dict[int | str, int]:
        """Note ids and files that repeat, and return the place of each id."""
        for number, places in repeated(self.ids).items():
            files = ", ".join(self.files[place] for place in places[:_SHOWN])
            self._findings.add("duplicate-image-id", self.file, f"{len(places)} images have the id {number}: {files}")
        for name, places in repeated(self.files).items():
            ids = ", ".join(str(self.ids[place]) for place in places[:_SHOWN])
            self._findings.add("duplicate-image-name", self.file, f"{len(places)} images are {name}: ids {ids}")
        return {number: place for place, number in enumerate(self.ids)}


def repeated(items: Sequence[Hashable]) -> dict[Any, list[int]]:
    """Return the places of each item that occurs more than once."""
    counts = Counter(items)
    if len(counts) == len(items):
        return {}
    places: dict[Any, list[int]] = {}
    for place, item in enumerate(items):
        if counts[item] > 1:
            places.setdefault(item, []).append(place)
    return places
