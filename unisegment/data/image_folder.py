# SPDX-License-Identifier: Apache-2.0
"""A folder of images without annotation in, the images with their names out."""

import os
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

from unisegment.data.annotated_images import check_size, read_listed_image
from unisegment.data.reading.coco_lists import read_size
from unisegment.data.reading.image_reading import ImageReading
from unisegment.data.reading.label_maps import IMAGE_ENDINGS, files_under
from unisegment.files import check_name, is_within, require_folder
from unisegment.ops.json_reading import read_json_lists
from unisegment.ops.json_values import read_text, read_whole_number
from unisegment.structures import NamedImage

_ENDINGS = (*IMAGE_ENDINGS, ".gif", ".avif", ".heic", ".heif")
"""HEIC is not read, but whoever has a photo in it shall hear so."""
_RESULTS = "parts/settings.json"
"""What a folder has that holds results, see `unisegment.runs.part_folder`."""


class ImageFolder:
    """The images of a folder, folders in it included, in the order of their names; hidden ones (`.name`) are left out.

    The id of an image is what a list in COCO's form says (such as `image_info_test-dev2017.json`), or the number that
    its name is, if all names are different numbers as COCO's are, or its place in the order, counted from 1.

    Args:
        root: The folder.
        image_list: A JSON file with `images`, each with `id` and `file_name`, which then are all images, in its order.

    Attributes:
        names: File name of each image, relative to the folder.
        reading: How image files are read.

    Raises:
        FileNotFoundError: When there is no image, or no such list.
        PermissionError: When a folder in it may not be looked into.
        ValueError: When the list is none, or a name in it is none in UTF-8 below the folder.
    """

    def __init__(self, root: str | Path, image_list: str | Path | None = None) -> None:
        self.root = Path(root)
        self.reading = ImageReading()
        self._sizes: dict[str, tuple[int, int]] = {}
        self._list = None if image_list is None else Path(image_list)
        if self._list is None:
            self.names = _names_in(self.root)
            self._ids = ids_of_names(self.names)
        else:
            self.names, self._ids = self._read_list(self._list)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> NamedImage:
        """Return one image.

        Raises:
            FileNotFoundError: When it is missing.
            ValueError: When it cannot be read, or has another size than the list says.
        """
        name = self.names[index]
        image = read_listed_image(self.root / name, self.reading)
        if name in self._sizes and self._list is not None:
            check_size(self.root / name, (image.shape[0], image.shape[1]), self._sizes[name], self._list)
        return NamedImage(image, self._ids[index], str(self.root / name))

    def first(self, number: int) -> "ImageFolder":
        """Return the first images alone, one or more."""
        check_number("limit", number)
        part = copy(self)
        part.names, part._ids = self.names[:number], self._ids[:number]
        return part

    def leave_out(self, output: Path) -> None:
        """Take no file in a folder of results, this or that of an earlier run, for an image, unless a list names it.

        Raises:
            FileNotFoundError: When there is no image elsewhere.
            ValueError: When that is the folder of the images itself.
        """
        if self._list is not None:
            return
        folders = {parent.as_posix() for name in self.names for parent in Path(name).parents[:-1]}
        results = {name for name in folders if (self.root / name / _RESULTS).is_file()}
        if is_within(output, self.root):
            place = os.path.relpath(os.path.realpath(output), os.path.realpath(self.root))
            if place == os.curdir:
                raise ValueError(
                    f"{output} is the folder of the images itself: choose another, such as {output}/results."
                )
            results.add(Path(place).as_posix())
        self.names = [
            name for name in self.names if results.isdisjoint(parent.as_posix() for parent in Path(name).parents)
        ]
        if not self.names:
            raise FileNotFoundError(f"{self.root} has no images but those in folders of results, such as {output}.")
        self._ids = ids_of_names(self.names)

    def _read_list(self, file: Path) -> tuple[list[str], list[int]]:
        names: list[str] = []
        ids: list[int] = []

        def add(entry: Mapping[str, Any]) -> None:
            names.append(read_text(entry, "file_name"))
            check_name(names[-1])
            ids.append(read_whole_number(entry, "id"))
            if "height" in entry:
                self._sizes[names[-1]] = read_size(entry)

        hint = "It must have `images`, each with `id` and `file_name`."
        read_json_lists(file, {"images": add}, data_format="COCO's form of a list of images", hint=hint)
        return names, ids


def _names_in(root: Path) -> list[str]:
    require_folder(root)
    found = (name for name in files_under(root) if Path(name).suffix.lower() in _ENDINGS)
    # Hidden ones are no photos, but what macOS and others keep of each.
    seen = (name for name in found if not any(part.startswith(".") for part in Path(name).parts))
    names = sorted(name for name in seen if (root / name).is_file())
    if not names:
        raise FileNotFoundError(f"{root} has no images; their names must end in {', '.join(_ENDINGS)}.")
    return names


def check_number(name: str, value: int) -> None:
    """Raise a ValueError unless a number of images is one or more."""
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, got {value}.")


def ids_of_names(names: Sequence[str]) -> list[int]:
    """Return the number that each name is, as COCO's are, if all are different numbers; else its place, from 1."""
    stems = [Path(name).stem for name in names]
    if all(stem.isdecimal() and stem.isascii() for stem in stems) and len(set(map(int, stems))) == len(stems):
        return [int(stem) for stem in stems]
    return list(range(1, len(names) + 1))
