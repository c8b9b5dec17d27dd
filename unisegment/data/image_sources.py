# SPDX-License-Identifier: Apache-2.0
"""What a user has in, a file, an address, a folder, a list or an iterator; its images, each with a name, out."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from io import BufferedIOBase, BytesIO, RawIOBase
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
import torch

from unisegment.data.annotated_images import check_size
from unisegment.data.reading.coco_lists import read_size
from unisegment.data.reading.image_reading import ImageReading, read_image
from unisegment.data.reading.label_maps import IMAGE_ENDINGS, files_under
from unisegment.files import check_name, require_folder
from unisegment.ops.downloads import is_address, public_address
from unisegment.ops.image_opening import open_image, require_image
from unisegment.ops.json_reading import read_json_lists
from unisegment.ops.json_values import read_text, read_whole_number
from unisegment.structures import NamedImage
from unisegment.types import Size

VIDEO_ENDINGS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
"""Ends of the names of video files, in any case."""
_ENDINGS = (*IMAGE_ENDINGS, ".gif", ".avif", ".heic", ".heif")
"""HEIC is not read, but whoever has a photo in it shall hear so."""
_RESULTS = "parts/settings.json"
"""What a folder has that holds results, see `unisegment.runs.part_folder`."""


class ImageList:
    """Images by number, each a file, an address, bytes of a file, an image of Pillow, an array or a tensor.

    Args:
        images: The images, as `read_image` takes them, or bytes.
        reading: How images are read; None means its defaults.

    Attributes:
        names: Name of each image, after which its results are named: that of a file without its folder, with as much of
            the folder as makes all names different; what is no file is numbered from 1.
        reading: How images are read.

    Raises:
        FileNotFoundError: When a file is missing.
    """

    def __init__(self, images: Sequence[Any], reading: ImageReading | None = None) -> None:
        self.images = [_checked(image) for image in images]
        self.names = _names_of(self.images)
        self._ids = _ids_of(self.names)
        self.reading = reading or ImageReading()

    def __len__(self) -> int:
        return len(self.images)

    def first(self, number: int) -> "ImageList":
        """Return the first images alone, one or more."""
        check_number("limit", number)
        part = copy(self)
        part.images, part.names, part._ids = self.images[:number], self.names[:number], self._ids[:number]
        return part

    def __getitem__(self, index: int) -> NamedImage:
        """Return one image.

        Raises:
            ValueError: When it cannot be read.
        """
        return _named(self.images[index], self.names[index], self._ids[index], self.reading)


class ImageFolder(ImageList):
    """The images of a folder, folders in it included, in the order of their names.

    Hidden files (`.name`) are left out, and so are results of `unisegment.inference.export_run` in a folder of it.

    The id of an image is what a list in COCO's form says (such as `image_info_test-dev2017.json`), or the number that
    its name is, if all names are different numbers as COCO's are, or its place in the order, counted from 1.

    Args:
        root: The folder.
        image_list: A JSON file with `images`, each with `id` and `file_name`, which then are all images, in its order.
        reading: How images are read; None means its defaults.

    Attributes:
        names: File name of each image, relative to the folder.
        reading: How images are read.

    Raises:
        FileNotFoundError: When there is no image, or no such list.
        PermissionError: When a folder in it may not be looked into.
        ValueError: When the list is not of this form, or a name in it is not that of a file below the folder, in UTF-8.
    """

    def __init__(
        self, root: str | Path, image_list: str | Path | None = None, reading: ImageReading | None = None
    ) -> None:
        self._list = None if image_list is None else Path(image_list)
        self._sizes: dict[str, Size] = {}
        if self._list is None:
            self.names = _names_in(Path(root))
            self._ids = _ids_of(self.names)
        else:
            self.names, self._ids = self._read_list(self._list)
        self.images = [Path(root) / name for name in self.names]
        self.reading = reading or ImageReading()

    def __getitem__(self, index: int) -> NamedImage:
        """Return one image.

        Raises:
            ValueError: When it is missing, cannot be read, or has another size than the list says.
        """
        image, name = super().__getitem__(index), self.names[index]
        if self._list is not None and name in self._sizes:
            check_size(self.images[index], image.size, self._sizes[name], self._list)
        return image

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


def open_images(images: Any, reading: ImageReading | None = None) -> ImageList | Iterator[Callable[[], NamedImage]]:
    """Return images by number; where nobody knows how many there are, functions that open one after the other.

    Args:
        images: A path of a file or a folder (with all folders in it), a pattern such as `photos/*.jpg`, an address, an
            image in any other form that `ImageList` takes, a batch of them as an array or tensor with four axes; a list
            of all these; an iterator, whose images are read when they are asked for; or what this has returned.
        reading: How images are read; None means its defaults. What is opened already is read as it was to be.

    Raises:
        FileNotFoundError: When there is nothing of a name, or no image in a folder.
    """
    if isinstance(images, ImageList):
        return images
    if isinstance(images, str | os.PathLike):
        path = os.fspath(images)
        return ImageFolder(path, reading=reading) if os.path.isdir(path) else ImageList(_expanded(path), reading)
    if isinstance(images, np.ndarray | torch.Tensor):
        return ImageList(list(images) if images.ndim == 4 else [images], reading)
    if isinstance(images, list | tuple):
        return ImageList([part for item in images for part in _expanded(item)], reading)
    # An image of Pillow has no `__iter__`, bytes and open files have one.
    if isinstance(images, Iterable) and not isinstance(images, bytes | bytearray | memoryview) and not _is_file(images):
        return _streamed(images, reading or ImageReading())
    return ImageList([images], reading)


def require_some(images: ImageList) -> None:
    """Look at how files begin, until one may be an image, to find out early that none is.

    Raises:
        ValueError: Says what is wrong with the first one, in the words of those who read it.
    """
    first = None
    for image in images.images:
        try:
            if isinstance(image, Path):
                _check_kind(image)
                require_image(image)
            return
        except ValueError as error:
            first = first or error
    if first is not None:
        raise ValueError(f"None of the {len(images)} images can be read. {first}" if len(images) > 1 else str(first))


def _streamed(images: Iterable[Any], reading: ImageReading) -> Iterator[Callable[[], NamedImage]]:
    for number, image in enumerate((part for item in images for part in _expanded(item)), start=1):
        yield partial(_open, image, number, reading)


def _open(image: Any, number: int, reading: ImageReading) -> NamedImage:
    image = _checked(image)
    return _named(image, _name_of(image, number), number, reading)


def _expanded(item: Any) -> list[Any]:
    """Return the files that a path stands for: those of a folder, or those that a pattern matches; else the item."""
    if not isinstance(item, str | os.PathLike):
        return [item]
    path = os.fspath(item)
    if os.path.isdir(path):
        return list(ImageFolder(path).images)
    if not os.path.lexists(path) and glob.has_magic(path) and not is_address(path):
        found = sorted(name for name in glob.glob(path, recursive=True) if os.path.isfile(name))
        if not found:
            raise FileNotFoundError(f"No file matches {path}.")
        return found
    return [item]


def _checked(image: Any) -> Any:
    """Return an image, the path of a file as `Path`; refuse early what is missing."""
    if _is_file(image):
        image = image.read()
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if not isinstance(image, str | os.PathLike):
        return image
    if os.path.exists(image):
        return Path(image)
    if isinstance(image, str) and _is_content(image):
        return image
    raise FileNotFoundError(f"{os.fspath(image) or 'A file without a name'} does not exist.")


def _is_file(image: Any) -> bool:
    """Tell whether something is an open file of bytes."""
    return isinstance(image, BufferedIOBase | RawIOBase | SpooledTemporaryFile)


def _is_content(text: str) -> bool:
    """Tell whether a text is an address, or an image in base64, rather than the name of a file."""
    return is_address(text) or text.startswith("data:image/")


def _named(image: Any, name: str, number: int, reading: ImageReading) -> NamedImage:
    is_elsewhere = isinstance(image, str) and is_address(image)
    shown = str(image) if isinstance(image, Path) else public_address(image) if is_elsewhere else name
    try:
        if isinstance(image, Path):
            _check_kind(image)
        stored = open_image(BytesIO(image), shown) if isinstance(image, bytes) else image
        pixels = read_image(stored, _layout(image, reading), reading, shown)
    except Exception as error:  # of ours, or of a server that is asked for an image
        raise ValueError(str(error) if shown in str(error) else f"{shown} cannot be read: {error}") from error
    return NamedImage(pixels, number, shown)


def _layout(image: Any, reading: ImageReading) -> str | None:
    """Return where an array has its channels if its shape leaves the choice: last, as arrays have them."""
    is_open = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] in (1, reading.channels)
    return "channels_last" if is_open else None


def _check_kind(path: Path) -> None:
    if path.suffix.lower() in VIDEO_ENDINGS:
        raise ValueError(
            f"{path} is a video. Take single images out of it first, for example with ffmpeg -i {path.name} "
            "frames/%06d.png."
        )
    if not path.is_file():  # a pipe, say, for which a read would wait without end
        raise ValueError(f"{path} {'is no file' if path.exists() else 'does not exist'}.")


def _names_of(images: Sequence[Any]) -> list[str]:
    names = [_name_of(image, number) for number, image in enumerate(images, start=1)]
    if len(set(names)) == len(names) or not all(isinstance(image, Path) for image in images):
        return names
    paths = [Path(os.path.abspath(image)) for image in images]
    root = Path(os.path.commonpath([path.parent for path in paths]))
    return [path.relative_to(root).as_posix() for path in paths]


def _name_of(image: Any, number: int) -> str:
    if isinstance(image, Path):
        return image.name
    if isinstance(image, str) and is_address(image):
        name = os.path.basename(public_address(image))
        if name not in ("", ".", ".."):
            return name
    return f"image_{number:06d}.png"


def _names_in(root: Path) -> list[str]:
    require_folder(root)
    found = set(files_under(root))
    results = tuple(name.removesuffix(_RESULTS) for name in found if name.endswith(f"/{_RESULTS}"))
    # Hidden ones are no photos, but what macOS and others keep of each.
    names = sorted(
        name
        for name in found
        if Path(name).suffix.lower() in _ENDINGS
        and not any(part.startswith(".") for part in Path(name).parts)
        and not name.startswith(results)
        and (root / name).is_file()
    )
    if not names:
        raise FileNotFoundError(
            f"{root} has no images, or only results of earlier runs; names of images must end in {', '.join(_ENDINGS)}."
        )
    return names


def check_number(name: str, value: int) -> None:
    """Raise a ValueError unless a number of images is one or more."""
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, got {value}.")


def _ids_of(names: Sequence[str]) -> list[int]:
    """Return the number that each name is, as COCO's are, if all are different numbers; else its place, from 1."""
    stems = [Path(name).stem for name in names]
    if all(stem.isdecimal() and stem.isascii() for stem in stems) and len(set(map(int, stems))) == len(stems):
        return [int(stem) for stem in stems]
    return list(range(1, len(names) + 1))
