# SPDX-License-Identifier: Apache-2.0
"""Images with one PNG file each, whose pixels hold a number of a label or of an object: folders in, samples out."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int32
from PIL import Image

from unisegment.data.annotated_images import (
    AnnotatedImages,
    SampleFiles,
    check_size,
    distinct_ids,
    read_listed_image,
    without_void,
)
from unisegment.data.problems import Problem, Problems
from unisegment.data.reading.annotation_reading import read_segment_map
from unisegment.data.reading.blended_maps import is_blended
from unisegment.data.reading.image_reading import ImageReading
from unisegment.data.reading.mask_files import open_mask
from unisegment.files import require_folder
from unisegment.ops.masks import rgb_to_ids
from unisegment.structures import Category, Sample, SegmentationTarget

_LARGEST_OF_ONE_CHANNEL = 65535
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""Ends of the names of image files, in any case."""


class Pairs(NamedTuple):
    """Images and their PNG files.

    Args:
        image_dir: Folder of the images.
        map_dir: Folder of the PNG files.
        files: Image and PNG file of each sample, relative to these, and its name.
    """

    image_dir: Path
    map_dir: Path
    files: list[tuple[str, str, str]]


class LabelMaps(AnnotatedImages):
    """Images with one PNG file each, in the order of their names.

    A pixel of a semantic PNG file holds the id of a category. One of an instance PNG file holds `id * label_divisor +
    n` for the object n of a category, or the id alone for all of the category that is not told apart: if it is a
    thing, that is a crowd. Files have one channel of 8 or 16 bits, or three as COCO's panoptic files do (red + 256
    green + 65536 blue). In palette images, the places in the palette count.

    Args:
        pairs: The images and their PNG files.
        categories: The labels; `id` is the number in the PNG files.
        void: Further ids, whose pixels are void.
        label_divisor: See above; None means that the PNG files are semantic.
        void_ids: Ids that are void even if they are those of categories, which are then no labels.

    Raises:
        ValueError: When there are no files, or no labels.
    """

    def __init__(
        self,
        pairs: Pairs,
        categories: list[Category],
        *,
        void: Collection[int] = (),
        label_divisor: int | None = None,
        void_ids: Collection[int] = (),
    ) -> None:
        super().__init__(without_void(categories, void_ids))
        if not pairs.files:
            raise ValueError(f"{pairs.image_dir}: there are no annotated images.")
        self.image_dir, self.map_dir = pairs.image_dir, pairs.map_dir
        self.void_ids = frozenset(void_ids)
        self.label_divisor = label_divisor
        self._coding = MapCoding(self.categories, {*void, *void_ids}, label_divisor)
        # Arrays rather than lists: worker processes would copy the memory of every Python object that they touch.
        self._image_files, self._map_files, self._names = (
            np.array(column, dtype=np.str_) for column in zip(*pairs.files, strict=True)
        )

    @property
    def id_factor(self) -> int:
        """What the id of a category is multiplied by in a PNG file."""
        return self.label_divisor or 1

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image.

        Raises:
            FileNotFoundError: When the image or its PNG file is missing.
            ValueError: When one of them cannot be read, when their sizes differ, or when the PNG file has numbers
                that are neither of a category nor void.
        """
        image_file, map_file = self.image_dir / self._image_files[index], self.map_dir / self._map_files[index]
        image, id_map = read_listed_image(image_file, self.reading), self.id_map(index)
        check_size(map_file, id_map.shape, image.shape[:2], image_file)
        target = self._coding.target(id_map, map_file)
        return Sample(image, self._names[index].item(), str(image_file), target=target)

    def id_map(self, index: int) -> Int32[np.ndarray, "h w"]:
        """Return the number of each pixel of an image."""
        return _read_map(self.map_dir / self._map_files[index], self.reading)

    def files(self, index: int) -> SampleFiles:
        """Return the image and the PNG file."""
        return SampleFiles(self.image_dir / self._image_files[index], self.map_dir / self._map_files[index])

    def numbers(self, index: int) -> set[int]:
        """Return the numbers in the PNG file of an image."""
        return distinct_ids(self.id_map(index))

    def labels_in(self, index: int) -> set[int]:
        """Return the labels of which an image has a segment that is no crowd, from its PNG file alone."""
        target = self._coding.target(self.id_map(index), self.map_dir / self._map_files[index])
        return {*target.labels[~target.is_crowd].tolist()}


class MapCoding:
    """What the numbers in a map stand for.

    Args:
        categories: The labels; `id` is the number in the map.
        void: Further ids, whose pixels are void.
        label_divisor: The object n of a category has the number `id * label_divisor + n`. None means that there are no
            objects, and the numbers are ids.
        objects_only: Numbers below `label_divisor` are objects of the category 0 like others. Otherwise they are ids:
            all of a category that is not told apart.

    Raises:
        ValueError: When an id cannot be told from an object.
    """

    def __init__(
        self,
        categories: list[Category],
        void: Collection[int] = (),
        label_divisor: int | None = None,
        *,
        objects_only: bool = False,
    ) -> None:
        too_high = [category.id for category in categories if label_divisor and category.id >= label_divisor]
        if too_high:
            raise ValueError(
                f"Categories have the ids {too_high[:5]}, but maps with objects need ids below {label_divisor}: give "
                "smaller ones."
            )
        self.categories = categories
        self.label_of = {category.id: label for label, category in enumerate(categories)}
        self.label_divisor = label_divisor
        self._first_object = 0 if objects_only else label_divisor
        self._void = frozenset(void) - self.label_of.keys()

    def target(self, id_map: Int32[np.ndarray, "h w"], source: Any) -> SegmentationTarget:
        """Return the segments of a map.

        Args:
            id_map: Number of each pixel.
            source: Where it comes from, for messages.

        Raises:
            DataError: When a number is neither of a category nor void.
        """
        category_of = {number: self._category_id(number) for number in sorted(distinct_ids(id_map))}
        wrong = [
            number
            for number, category in category_of.items()
            if category not in self.label_of and category not in self._void
        ]
        if wrong:
            raise Problem("unknown-id", str(source), self._describe(wrong) + _hint(wrong, id_map)).error()
        segments = {number: category for number, category in category_of.items() if category in self.label_of}
        labels = [self.label_of[category] for category in segments.values()]
        return SegmentationTarget(
            labels=torch.tensor(labels, dtype=torch.int64),
            id_map=torch.from_numpy(id_map),
            segment_ids=torch.tensor(list(segments), dtype=torch.int64),
            is_crowd=torch.tensor(
                [self._is_crowd(number, label) for number, label in zip(segments, labels, strict=True)],
                dtype=torch.bool,
            ),
        )

    def _category_id(self, number: int) -> int:
        return number // self.label_divisor if self.label_divisor and self._is_object(number) else number

    def _is_crowd(self, number: int, label: int) -> bool:
        return self.label_divisor is not None and not self._is_object(number) and self.categories[label].is_thing

    def _is_object(self, number: int) -> bool:
        return self._first_object is not None and number >= self._first_object

    def _describe(self, wrong: list[int]) -> str:
        coding = "" if self.label_divisor is None else f" or {self.label_divisor} times such an id plus a number,"
        return (
            f"it has pixels with the numbers {wrong[:5]}, which belong to no category. Numbers must be ids of "
            f"categories ({_short(self.label_of)}),{coding} or void ({_short(self._void)}): list the category, or "
            f"change the pixels."
        )


def images_under(folder: Path) -> list[Path]:
    """Return the images in a folder and in those in it; in the order in which the system lists them.

    Raises:
        OSError: As for `files_under`.
    """
    return [folder / name for name in files_under(folder) if name.lower().endswith(IMAGE_ENDINGS)]


def images_by_stem(
    folder: Path, names: Iterable[str], endings: Sequence[str], problems: Problems
) -> dict[str, str | None]:
    """Return the image of each name without its ending; None where several have it, which is told.

    Args:
        folder: Folder of the files.
        names: Names of files in it; those with other endings are passed over.
        endings: How images end, in any case.
        problems: Where to tell that images have one name, so that they cannot be used.
    """
    images: dict[str, list[str]] = {}
    for name in sorted(names):
        ending = next((ending for ending in endings if name.lower().endswith(ending.lower())), None)
        if ending is not None:
            images.setdefault(name[: -len(ending)], []).append(name)
    for first, *others in images.values():
        if others:
            detail = f"{others[0]} has the same name, and whose the PNG file is cannot be known: rename one."
            problems.add("same-name-images", folder / first, detail)
    return {stem: found[0] if len(found) == 1 else None for stem, found in images.items()}


def pair_files(
    image_dir: Path, map_dir: Path, image_endings: Sequence[str], map_ending: str = ".png", *, problems: Problems
) -> Pairs:
    """Find the images of a folder, folders in it included, and the PNG file of each: they share folder and name.

    Args:
        image_dir: Folder of the images.
        map_dir: Folder of the PNG files.
        image_endings: How images end, in any case; what is in front of it is the name.
        map_ending: How PNG files end.
        problems: Is told of images without a PNG file and of those of one name, which are left out, and of files that
            belong to nothing.

    Returns:
        The pairs, sorted by name.

    Raises:
        FileNotFoundError: When there is no image.
    """
    require_folder(image_dir)
    folders: list[str] = []
    image_of = images_by_stem(image_dir, files_under(image_dir, folders), image_endings, problems)
    if not image_of:
        raise FileNotFoundError(f"{image_dir} has no images; their names must end in {', '.join(image_endings)}.")
    maps = {name for name in files_under(map_dir) if name.endswith(map_ending)}
    pairs = Pairs(image_dir, map_dir, [])
    for stem, image in sorted(image_of.items()):
        label_map = f"{stem}{map_ending}"
        if image is None:
            continue
        if label_map in maps:
            pairs.files.append((image, label_map, Path(stem).name))
        else:
            detail = f"there is no such file for the image {image_dir / image}: add it, or take the image away."
            problems.add("missing-label-map", map_dir / label_map, detail)
    for label_map in sorted(maps - {f"{stem}{map_ending}" for stem in image_of}):
        problems.add("unlisted-label-map", map_dir / label_map, "there is no image of its name")
    for name in folders:
        if name.lower().endswith(tuple(ending.lower() for ending in image_endings)):
            problems.add("folder-named-as-image", image_dir / name, "it is a folder")
    return pairs


def files_under(folder: Path, folders: list[str] | None = None) -> Iterator[str]:
    """Give the files below a folder, relative to it; folders are added to a list.

    Raises:
        OSError: When a folder is there and cannot be looked into: what is in it would be left out, and nobody told.
    """
    for place, inner_folders, names in os.walk(folder, onerror=_unless_missing):
        inner = "" if place == str(folder) else f"{Path(place).relative_to(folder).as_posix()}/"
        yield from (f"{inner}{name}" for name in names)
        if folders is not None:
            folders.extend(f"{inner}{name}" for name in inner_folders)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _read_map(file: Path, reading: ImageReading) -> Int32[np.ndarray, "h w"]:
    image = open_mask(file, reading)
    try:
        return numbers_of(image)
    except ValueError as error:
        raise Problem("label-map-channels", str(file), str(error)).error() from error


def _hint(wrong: list[int], id_map: Int32[np.ndarray, "h w"]) -> str:
    """Return where numbers that belong to no category may come from."""
    if max(wrong) > _LARGEST_OF_ONE_CHANNEL:
        return " It has three channels, read as red + 256 green + 65536 blue: turn colours into ids first."
    if is_blended(id_map):
        return " Its borders hold numbers in between: resize labels to the nearest, never smoothly."
    return ""


def numbers_of(segment_map: Any) -> Int32[np.ndarray, "h w"]:
    """Return the number that each pixel of a map holds: red + 256 green + 65536 blue if it has colours.

    Args:
        segment_map: As for `read_segment_map`, or a Pillow image in RGB.

    Raises:
        ValueError: When it cannot be read.
    """
    is_rgb = isinstance(segment_map, Image.Image) and segment_map.mode == "RGB"
    return rgb_to_ids(np.asarray(segment_map)) if is_rgb else read_segment_map(segment_map)


def _short(ids: Collection[int]) -> str:
    numbers = sorted(ids)
    if len(numbers) > 1 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers[:10])) + (", …" if len(numbers) > 10 else "") if numbers else "none"
