# SPDX-License-Identifier: Apache-2.0
"""What a user has in, a file, an address, a folder, a list or an iterator; its images, each with a name, out."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from functools import partial
from io import BufferedIOBase, BytesIO, RawIOBase
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
import torch

from unisegment.data.image_folder import ImageFolder, check_number, ids_of_names
from unisegment.data.reading.image_reading import ImageReading, read_image
from unisegment.ops.downloads import is_address, public_address
from unisegment.ops.image_opening import open_image
from unisegment.structures import NamedImage

VIDEO_ENDINGS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
"""Ends of the names of video files, in any case."""


class ImageList:
    """Images by number, each a file, an address, bytes of a file, an image of Pillow, an array or a tensor.

    Args:
        images: The images, as `read_image` takes them, or bytes.
        names: Name of each, after which its results are named. None takes the name of a file without its folder, with
            as much of the folder as makes all names different; what is no file has its number as name.

        reading: How images are read; None means its defaults.

    Attributes:
        names: Name of each image.

    Raises:
        FileNotFoundError: When a file is missing.
        ValueError: When there is no image.
    """

    def __init__(
        self, images: Sequence[Any], names: Sequence[str] | None = None, reading: ImageReading | None = None
    ) -> None:
        self.images = [_checked(image) for image in images]
        if not self.images:
            raise ValueError("There is no image: the list is empty.")
        self.names = _names_of(self.images) if names is None else list(names)
        self._ids = ids_of_names(self.names)
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


def open_images(
    images: Any, reading: ImageReading | None = None
) -> ImageFolder | ImageList | Iterator[Callable[[], NamedImage]]:
    """Return images by number; where nobody knows how many there are, functions that open one after the other.

    Args:
        images: A path of a file or a folder (with all folders in it), a pattern such as `photos/*.jpg`, an address, an
            image in any other form that `ImageList` takes, a batch of them as an array or tensor with four axes; a list
            of all these; or an iterator, whose images are read when they are asked for.
        reading: How images are read; None means its defaults.

    Raises:
        FileNotFoundError: When there is nothing of a name, or no image in a folder.
        ValueError: When an item is no image.
    """
    if isinstance(images, ImageFolder | ImageList):
        return images
    if isinstance(images, str | os.PathLike):
        path = os.fspath(images)
        if not os.path.isdir(path):
            return ImageList(_expanded(path), reading=reading)
        folder = ImageFolder(path)
        folder.reading = reading or folder.reading
        return folder
    if isinstance(images, np.ndarray | torch.Tensor):
        return ImageList(list(images) if images.ndim == 4 else [images], reading=reading)
    if isinstance(images, list | tuple):
        return ImageList([part for item in images for part in _expanded(item)], reading=reading)
    # An image of Pillow has no `__iter__`, bytes and open files have one.
    if isinstance(images, Iterable) and not isinstance(images, bytes | bytearray | memoryview) and not _is_file(images):
        return _streamed(images, reading or ImageReading())
    return ImageList([images], reading=reading)


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
        return [os.path.join(path, name) for name in ImageFolder(path).names]
    if not os.path.lexists(path) and not is_address(path) and glob.has_magic(path):
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
    if not isinstance(image, str | os.PathLike) or (isinstance(image, str) and _is_content(image)):
        return image
    path = Path(image)
    if not os.path.exists(image):
        raise FileNotFoundError(f"{os.fspath(image) or 'A file without a name'} does not exist.")
    return path


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
