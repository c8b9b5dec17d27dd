# SPDX-License-Identifier: Apache-2.0
"""Images with one PNG file each, whose pixels hold a number of a label or of an object: folders in, samples out."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int32

from unisegment.data.annotated_images import AnnotatedImages, check_size, distinct_ids, read_listed_image
from unisegment.data.annotation_reading import read_segment_map
from unisegment.data.image_reading import open_image
from unisegment.ops.masks import rgb_to_ids
from unisegment.structures import Category, Sample, SegmentationTarget

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""Ends of the names of image files, in any case."""


class LabelMaps(AnnotatedImages):
    """Images with one PNG file each, in the order of their names.

    A pixel of a semantic PNG file holds the id of a category. One of an instance PNG file holds `id * label_divisor +
    n` for the object n of a category, or the id alone for all of the category that is not told apart: if it is a
    thing, that is a crowd. Files have one channel of 8 or 16 bits, or three as COCO's panoptic files do (red + 256
    green + 65536 blue). In palette images, the places in the palette count.

    Args:
        root: Folder that everything lies in.
        files: Image and PNG file of each sample, relative to `root`, and its name.
        categories: The labels; `id` is the number in the PNG files.
        void: Further ids, whose pixels are void.
        label_divisor: See above; None means that the PNG files are semantic.

    Raises:
        ValueError: When there are no files.
    """

    def __init__(
        self,
        root: str | Path,
        files: Sequence[tuple[str, str, str]],
        categories: list[Category],
        *,
        void: Collection[int] = (),
        label_divisor: int | None = None,
    ) -> None:
        super().__init__(categories)
        if not files:
            raise ValueError(f"{root}: there are no annotated images.")
        self.root = Path(root)
        self.label_divisor = label_divisor
        self._void = frozenset(void) - self.label_of.keys()
        # Arrays rather than lists: worker processes would copy the memory of every Python object that they touch.
        self._image_files, self._map_files, self._names = (
            np.array(column, dtype=np.str_) for column in zip(*files, strict=True)
        )

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image.

        Raises:
            FileNotFoundError: When the image or its PNG file is missing.
            ValueError: When one of them cannot be read, when their sizes differ, or when the PNG file has numbers
                that are neither of a category nor void.
        """
        image_file, map_file = (self.root / files[index] for files in (self._image_files, self._map_files))
        image, id_map = read_listed_image(image_file), _read_map(map_file)
        check_size(map_file, id_map.shape, image.shape[:2], image_file)
        target = self._target(id_map, map_file)
        return Sample(image, target, image_id=self._names[index].item(), file_name=str(image_file))

    def _target(self, id_map: Int32[np.ndarray, "h w"], file: Path) -> SegmentationTarget:
        category_of = {number: self._category_id(number) for number in sorted(distinct_ids(id_map))}
        wrong = [
            number
            for number, category in category_of.items()
            if category not in self.label_of and category not in self._void
        ]
        if wrong:
            raise ValueError(self._describe(wrong, file))
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
        return number if self.label_divisor is None or number < self.label_divisor else number // self.label_divisor

    def _is_crowd(self, number: int, label: int) -> bool:
        return self.label_divisor is not None and number < self.label_divisor and self.categories[label].is_thing

    def _describe(self, wrong: list[int], file: Path) -> str:
        coding = "" if self.label_divisor is None else f" or {self.label_divisor} times such an id plus a number,"
        return (
            f"{file} has pixels with the numbers {wrong[:5]}, which belong to no category. Numbers must be ids of "
            f"categories ({_short(self.label_of)}),{coding} or void ({_short(self._void)}): list the category, or "
            f"change the pixels."
        )


def pair_files(
    root: Path, image_dir: str, map_dir: str, image_endings: Iterable[str], map_ending: str = ".png"
) -> list[tuple[str, str, str]]:
    """Find the images of a folder, folders in it included, and the PNG file of each: they share folder and name.

    Args:
        root: Folder of the data set.
        image_dir: Folder of the images, relative to `root`.
        map_dir: Folder of the PNG files, relative to `root`.
        image_endings: How images end, in any case; what is in front of it is the name.
        map_ending: How PNG files end.

    Returns:
        Image and PNG file of each, relative to `root`, and the name without folders, sorted.

    Raises:
        FileNotFoundError: When there is no image, or one without a PNG file.
        ValueError: When two images have one name.
    """
    images = _images_by_stem(root / image_dir, tuple(image_endings))
    maps = set(_files_under(root / map_dir))
    missing = [stem for stem in images if f"{stem}{map_ending}" not in maps]
    if missing:
        raise FileNotFoundError(
            f"{root / map_dir} lacks the PNG files of {len(missing)} of {len(images)} images, such as "
            f"{missing[0]}{map_ending} for {image_dir}/{images[missing[0]]}: add them, or take the images away."
        )
    return [
        (f"{image_dir}/{image}", f"{map_dir}/{stem}{map_ending}", Path(stem).name)
        for stem, image in sorted(images.items())
    ]


def _images_by_stem(folder: Path, endings: tuple[str, ...]) -> dict[str, str]:
    images: dict[str, str] = {}
    for name in _files_under(folder):
        ending = next((ending for ending in endings if name.lower().endswith(ending.lower())), None)
        if ending is None:
            continue
        stem = name[: -len(ending)]
        if stem in images:
            raise ValueError(
                f"{folder} has two images of one name, {images[stem]} and {name}: which of them the PNG file belongs "
                "to cannot be known. Rename one of them."
            )
        images[stem] = name
    if not images:
        raise FileNotFoundError(f"{folder} has no images; their names must end in {', '.join(endings)}.")
    return images


def _files_under(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        inner = os.path.relpath(place, folder)
        yield from names if inner == "." else (f"{Path(inner).as_posix()}/{name}" for name in names)


def _read_map(file: Path) -> Int32[np.ndarray, "h w"]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no such file, but the annotations name it.")
    image = open_image(file)
    try:
        return rgb_to_ids(np.asarray(image)) if image.mode == "RGB" else read_segment_map(image)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _short(ids: Collection[int]) -> str:
    numbers = sorted(ids)
    if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers[:10])) + (", …" if len(numbers) > 10 else "") if numbers else "none"
