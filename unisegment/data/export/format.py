# SPDX-License-Identifier: Apache-2.0
"""What all export formats share: what an image leaves behind, and how the parts become the files of the whole."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from unisegment.data.choices import check_run_name
from unisegment.files import check_name, inside, whole_file
from unisegment.structures import Category
from unisegment.types import Size


class ExportedImage(NamedTuple):
    """An image whose predictions are written.

    Args:
        image_id: Number or name of it in its data set.
        file_name: Its file, relative to the folder of all images; results are named after it.
        size: Height and width in pixels.
        pixels: Red, green and blue, 0 to 255, for formats that draw; None where nobody has them.
    """

    image_id: int | str
    file_name: str
    size: Size
    pixels: UInt8[np.ndarray, "h w 3"] | None = None

    def entry(self) -> dict[str, Any]:
        """Return it as COCO's files list it."""
        height, width = self.size
        return {"id": self.image_id, "file_name": self.file_name, "height": height, "width": width}


Parts = Callable[[], Iterator[dict[str, Any]]]
"""Gives the `name` of each image and what `write` returned, in the order of the images, as often as it is asked."""


class ExportFormat:
    """Writes the predictions of one image after the other, and then what they have in common.

    Args:
        output: Folder that everything goes to.
        categories: What each label is in the files, by its place in the list.
        run_name: Name of the algorithm in the names of files for servers.

    Raises:
        ValueError: When `run_name` is no part of a file's name.
    """

    tasks: tuple[str, ...]
    """Predictions that are needed: of panoptic, instance, semantic."""
    has_image_ids: ClassVar[bool] = False
    """Whether the files have ids of images: those of most folders are places in it, which one image more may change."""
    part_kinds: ClassVar[Mapping[str, type]] = {}
    """What `write` returns: its keys, and what is under them."""
    settings: Mapping[str, Any] = {}
    """Choices of the format's own that a run must share with the one that it goes on with."""

    def __init__(self, output: Path, categories: Sequence[Category], run_name: str = "unisegment") -> None:
        check_run_name(run_name)
        self.output = output
        self.categories = list(categories)
        self.run_name = run_name

    def write(self, image: ExportedImage, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """Write the files of one image.

        Args:
            image: The image.
            predictions: Its prediction for each of `tasks`, at the size of the image.

        Returns:
            What `finish` needs of it, as JSON can hold it.

        Raises:
            ValueError: When the name of the image, or a link, leads out of `output`.
            WriteError: When something cannot be written.
        """
        raise NotImplementedError

    def stem(self, file_name: str) -> str:
        """Return what the files of an image are named after: its file name without the ending.

        Raises:
            ValueError: When that is no name of a file in a folder.
        """
        check_name(file_name)
        return Path(file_name).with_suffix("").as_posix()

    def check_names(self, file_names: Iterable[str]) -> None:
        """Check that the files of all images are in `output`, and that no image has those of another.

        Raises:
            ValueError: Names the first image for which that is not so.
        """
        seen: dict[str, str] = {}
        for name in file_names:
            try:
                stem = self.stem(name)
            except ValueError as error:
                raise ValueError(f"{error}. Rename it.") from error
            if stem in seen:
                raise ValueError(
                    f"Two images are named {stem}, {seen[stem]} and {name}, and one's results would replace the "
                    "other's: rename one, or leave it out, and begin in another folder."
                )
            seen[stem] = name

    def place(self, name: str) -> Path:
        """Return the path of a file in `output`; see `unisegment.files.inside`."""
        return inside(self.output, name)

    def finish(self, parts: Parts) -> None:
        """Write the files of all images together, without holding what all of them left behind.

        Raises:
            WriteError: When something cannot be written.
        """


def save_png(path: Path, pixels: Shaped[np.ndarray, "h w *channels"]) -> None:
    """Write a PNG file, which is there completely or not at all."""
    with whole_file(path) as partial:
        Image.fromarray(pixels).save(partial, format="PNG")


def stream_json(path: Path, sections: Mapping[str, Iterable[Any]] | Iterable[Any]) -> None:
    """Write a JSON file with one list, or a dict of lists, an entry a line, without holding it.

    It is there completely or not at all.
    """
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        if not isinstance(sections, Mapping):
            file.writelines(_list_lines(sections))
            file.write("\n")
            return
        for place, (name, entries) in enumerate(sections.items()):
            file.write(f"{',' if place else '{'}\n{json.dumps(name)}: ")
            file.writelines(_list_lines(entries))
        file.write("\n}\n")


def _list_lines(entries: Iterable[Any]) -> Iterator[str]:
    yield "["
    for place, entry in enumerate(entries):
        yield (",\n" if place else "\n") + json.dumps(entry)
    yield "\n]"
