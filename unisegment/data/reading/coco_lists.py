# SPDX-License-Identifier: Apache-2.0
"""What COCO's two formats share: a file lists categories and images, and annotations name them by their ids."""

from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, Integer

from unisegment.data.annotated_images import category_of_entry, read_category_id
from unisegment.data.categories import category_name
from unisegment.data.problems import DataError, Problem, Problems
from unisegment.data.reading.packed_columns import PackedIds, PackedTexts, smallest
from unisegment.ops.json_reading import iterate_json_lists
from unisegment.ops.json_values import INT32, read_id, read_text, read_whole_number, shown, value_of
from unisegment.structures import Category
from unisegment.types import Size

NO_LABEL = -1
"""Stands for the label of what is void, and for the place of what was refused."""
_UNKNOWN = -2
_SHOWN = 5


class ListedImage(NamedTuple):
    """An entry of `images`."""

    id: int | str
    file_name: str
    size: Size
    """Height and width."""


class ListedImages:
    """The images that a file lists, in its order, a few bytes for each."""

    def __init__(self) -> None:
        self._ids: array[int] | PackedTexts = array("q")
        self.files = PackedTexts()
        """Names of the files."""
        self._sizes = array("i")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> ListedImage:
        """Return one of them."""
        place = range(len(self))[place]
        height, width = self._sizes[2 * place : 2 * place + 2]
        return ListedImage(self._ids[place], self.files[place], (height, width))

    def append(self, image: ListedImage) -> None:
        """Add one.

        Raises:
            ValueError: When its id is a text, and those of others are numbers, or the reverse.
        """
        if len(self) == 0 and isinstance(image.id, str):
            self._ids = PackedTexts()
        try:
            self._ids.append(image.id)  # type: ignore[arg-type]  # or else it raises
        except (TypeError, AttributeError) as error:
            raise ValueError("its id is a text, but those of others are numbers, or the reverse") from error
        self.files.append(image.file_name)
        self._sizes.extend(image.size)


class CocoLists:
    """The categories and images of a file, and which of the images cannot be used.

    A problem with a category concerns all images: it ends the reading, unless all problems are wanted
    (`Problems.thorough`).

    Args:
        file: The JSON file.
        problems: Where to tell what is wrong.
        hint: Added to messages about malformed entries: which format the file should be in.
        is_thing: As for `category_of_entry`.
    """

    def __init__(self, file: Path, problems: Problems, hint: str, is_thing: bool | None = None) -> None:
        self.file = file
        self.problems = problems
        self.images = ListedImages()
        self.refused: dict[int, Problem] = {}
        """What is wrong with images that cannot be used, by their places."""
        self._hint = hint
        self._is_thing = is_thing
        self._categories: dict[int, Category] = {}
        self._super_of: dict[int, Any] = {}
        self._place_of: dict[int | str, int] = {}
        self._repeated: dict[int | str, list[int]] = {}
        self._refused_ids: dict[int | str, Problem] = {}

    def read(self, add_annotation: Callable[[int, Any], None], optional: Collection[str] = ()) -> None:
        """Go through the lists of the file, which may come in any order.

        Args:
            add_annotation: Called with each entry of `annotations` and its place.
            optional: Keys of the lists that may be missing or empty.

        Raises:
            DataError: When there is no such file, it is not valid JSON or lacks a list, or as `problems` says.
        """
        adders = {"categories": self._add_category, "images": self._add_image, "annotations": add_annotation}
        places = dict.fromkeys(adders, 0)
        try:
            for key, entry in iterate_json_lists(self.file):
                if key in adders:
                    adders[key](places[key], entry)
                    places[key] += 1
        except DataError:
            raise
        except FileNotFoundError as error:
            raise self._problem("no-data", "there is no such file.").error() from error
        except (ValueError, OSError) as error:
            kind = "unreadable-file" if isinstance(error, OSError) else "broken-json"
            raise self._problem(kind, f"it {str(error).removeprefix(f'{self.file} ')}").error() from error
        missing = [key for key, count in places.items() if count == 0 and key not in optional]
        if missing or not self._categories:
            detail = f"it lists no {', '.join(missing or ['category that can be used'])}. {self._hint}"
            raise self._problem("wrong-structure", detail).error()
        self._refuse_repeated()

    def categories(self, used: Collection[Any]) -> list[Category]:
        """Return the categories in ascending order of their ids.

        Roboflow's first category is the `supercategory` of all others, and its own is "none". It has no objects, and is
        left out.

        Args:
            used: Ids of categories that have objects.
        """
        of_others = {name for name in self._super_of.values() if isinstance(name, str)}
        return [
            category
            for number, category in sorted(self._categories.items())
            if number in used or self._super_of[number] != "none" or category.name not in of_others
        ]

    def add_problem(self, kind: str, detail: str) -> None:
        """Tell what is wrong with no image."""
        self.problems.extend([self._problem(kind, detail)])

    def refuse(self, place: int, kind: str, detail: str, image: Path) -> None:
        """Tell what is wrong with an image, once for each image unless all is wanted."""
        if place in self.refused and not self.problems.thorough:
            return
        problem = self._problem(kind, detail)._replace(image=str(image))
        self.problems.extend([problem])
        self.refused.setdefault(place, problem)

    def refuse_entry(self, kind: str, image_id: int | str | None, detail: str) -> None:
        """Tell what is wrong with an annotation; its image, which may be listed later, cannot be used then.

        Args:
            kind: See `Problem`.
            image_id: Id of the image; None where that is not known.
            detail: See `Problem`.
        """
        if image_id in self._refused_ids and not self.problems.thorough:
            return
        problem = self._problem(kind, f"{detail}. {self._hint}" if kind == "wrong-structure" else f"{detail}.")
        self.problems.extend([problem])
        if image_id is not None:
            self._refused_ids.setdefault(image_id, problem)

    def places_of(self, image_ids: PackedIds) -> Int64[np.ndarray, " n"]:
        """Return where in the list the images of annotations are, and tell of those that it lacks.

        Args:
            image_ids: Id of the image of each annotation; None of those that were refused.

        Returns:
            The place of each image; `NO_LABEL` of those that are unknown or were refused.
        """
        places = image_ids.look_up(
            NO_LABEL if number is None else self._place_of.get(number, _UNKNOWN) for number in image_ids.distinct()
        )
        for row in np.flatnonzero(places == _UNKNOWN).tolist():
            detail = f"annotations[{row}]: it is of the image {shown(image_ids[row])}, which is not listed."
            self.add_problem("unknown-image", detail)
        for number, problem in self._refused_ids.items():
            if number in self._place_of:
                self.refused.setdefault(self._place_of[number], problem)
        return np.maximum(places, NO_LABEL)

    def labels_of(
        self, category_ids: PackedIds, label_of: Mapping[int, int], void: Collection[int]
    ) -> tuple[Int64[np.ndarray, " n"], list[int]]:
        """Return the label of each category, `NO_LABEL` for void and None, and the places of unknown categories.

        Args:
            category_ids: Ids of categories.
            label_of: Label of each id.
            void: Ids of those that are void.
        """
        known: dict[Any, int] = dict.fromkeys([None, *void], NO_LABEL) | dict(label_of)
        labels = category_ids.look_up(known.get(number, _UNKNOWN) for number in category_ids.distinct())
        return np.maximum(labels, NO_LABEL), np.flatnonzero(labels == _UNKNOWN).tolist()

    def usable(self) -> Sequence[int] | Integer[np.ndarray, " n"]:
        """Return the places of the images that can be used; of all, where all problems are wanted."""
        everything = range(len(self.images))
        if self.problems.thorough or not self.refused:
            return everything
        return smallest(np.array([place for place in everything if place not in self.refused], dtype=np.int64))

    def unannotated(self, places: Int64[np.ndarray, " n"]) -> Iterator[str]:
        """Give the files of images without annotations: not at these places, and without refused ones."""
        is_annotated = np.zeros(len(self.images) + 1, dtype=np.bool_)
        is_annotated[places] = True  # the last stands for none
        is_annotated[[*self.refused]] = True
        return (self.images[place].file_name for place in np.flatnonzero(~is_annotated[:-1]).tolist())

    def _problem(self, kind: str, detail: str) -> Problem:
        return Problem(kind, str(self.file), detail)

    def _refuse_category(self, kind: str, detail: str) -> None:
        if not self.problems.thorough:
            raise self._problem(kind, detail).error()
        self.add_problem(kind, detail)

    def _add_category(self, place: int, entry: Any) -> None:
        try:
            number, name = read_category_id(entry), category_name(value_of(entry, "name"))
        except ValueError as error:
            self._refuse_category("wrong-structure", f"categories[{place}]: {error}. {self._hint}")
            return
        try:
            category = category_of_entry(entry, self._is_thing)
        except ValueError as error:
            self._refuse_category("odd-isthing", f"categories[{place}] {name!r}: {error}. {self._hint}")
            category = category_of_entry({**entry, "isthing": 1})
        if number in self._categories:
            owner = self._categories[number].name
            detail = f"categories[{place}] {name!r} has the id {number} of {owner!r}. Each needs an id of its own."
            self._refuse_category("duplicate-category-id", detail)
        elif self.problems.thorough and name in {category.name for category in self._categories.values()}:
            self.add_problem("duplicate-category-name", f"categories[{place}] is another {name!r}")
        self._categories.setdefault(number, category)
        self._super_of.setdefault(number, entry.get("supercategory"))

    def _add_image(self, place: int, entry: Any) -> None:
        try:
            size = read_size(entry)
            image = ListedImage(read_id(entry), read_text(entry, "file_name"), size)
            self.images.append(image)
        except ValueError as error:
            self.add_problem("wrong-structure", f"images[{place}]: {error}. {self._hint}")
            return
        last = len(self.images) - 1
        first = self._place_of.setdefault(image.id, last)
        if first != last:
            self._repeated.setdefault(image.id, [first]).append(last)

    def _refuse_repeated(self) -> None:
        for number, places in self._repeated.items():
            files = ", ".join(self.images[place].file_name for place in places[:_SHOWN])
            detail = f"{len(places)} images have the id {shown(number)}: {files}. Each needs an id of its own."
            problem = self._problem("duplicate-image-id", detail)
            self.problems.extend([problem])
            self.refused |= dict.fromkeys(places, problem)
        if self.problems.thorough:
            ids: dict[str, list[int | str]] = {}
            for image in map(self.images.__getitem__, range(len(self.images))):
                ids.setdefault(image.file_name, []).append(image.id)
            for name, numbers in ids.items():
                if len(numbers) > 1:
                    detail = f"{len(numbers)} images are {name}: ids {', '.join(map(str, numbers[:_SHOWN]))}"
                    self.add_problem("duplicate-image-name", detail)


def read_size(entry: Any) -> Size:
    """Return height and width of an entry of `images`. Sizes that no image can have are found when it is read.

    Raises:
        ValueError: When they are no whole numbers of 32 bits.
    """
    return read_whole_number(entry, "height", *INT32), read_whole_number(entry, "width", *INT32)
