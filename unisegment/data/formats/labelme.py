# SPDX-License-Identifier: Apache-2.0
"""LabelMe's format in, annotated images out: a JSON file for each image, with its shapes and perhaps the image itself.

Shapes are in pixels of the image as it is to be seen: LabelMe turns images as their EXIF data say before anything is
drawn. Polygons, rectangles, circles and masks are objects; shapes of one label and one `group_id` are one object
together. Points and lines have no area and are left out, as are shapes that are labelled `__ignore__`.

Source:
    https://github.com/wkentaro/labelme, `examples/instance_segmentation` for folders and `labels.txt`.
"""

import os
import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer
from PIL import Image

from unisegment.data.annotated_images import AnnotatedImages, SampleFiles, check_size, read_listed_image, without_void
from unisegment.data.formats.format import Format, Found, Layout
from unisegment.data.formats.png_folders import CategoryList, categories_of, given_categories
from unisegment.data.problems import Box, DataError, Problem, Problems
from unisegment.data.reading.image_reading import read_image
from unisegment.data.reading.label_maps import IMAGE_ENDINGS
from unisegment.data.reading.labelme_files import VOID_LABELS, LabelmeFile, name_of, read_labelme
from unisegment.data.reading.object_drawing import draw_objects
from unisegment.data.reading.packed_columns import PackedTexts, smallest
from unisegment.data.reading.text_lines import read_lines
from unisegment.files import is_named_within
from unisegment.ops.json_values import shown
from unisegment.structures import Category, Sample
from unisegment.types import Size

_LOOKED_AT = 10
"""JSON files of a folder of which one must be LabelMe's."""
_HEAD = 2**20
"""Bytes at both ends of a file in which a word is looked for."""


class _Entry(NamedTuple):
    """What is kept of a file."""

    file: Path
    image: Path | None
    """None where the image is in the file."""
    size: Size
    """(0, 0) where the file does not say."""
    labels: list[str]
    """Of its objects."""


class Labelme(AnnotatedImages):
    """Images with one JSON file each, in the order of their names. The files are read when they are asked for.

    Args:
        entries: What is kept of each file.
        categories: The labels, whose names are those of the shapes.
        void_ids: Ids of categories that are no label; their objects are left out.

    Raises:
        ValueError: When no label is left.
    """

    def __init__(self, entries: Sequence[_Entry], categories: list[Category], void_ids: Collection[int] = ()) -> None:
        super().__init__(without_void(categories, void_ids))
        self.void_ids = frozenset(void_ids)
        self._label_of_name = label_of = {category.name: label for label, category in enumerate(self.categories)}
        self._files = PackedTexts(os.fspath(entry.file) for entry in entries)
        self._images = PackedTexts(os.fspath(entry.image or "") for entry in entries)
        self._sizes = smallest(np.array([entry.size for entry in entries], dtype=np.int64).reshape(-1, 2))
        labels = [[label_of[name] for name in entry.labels if name in label_of] for entry in entries]
        self._labels = smallest(np.array([label for of_image in labels for label in of_image], dtype=np.int64))
        self._bounds = smallest(np.cumsum([0, *map(len, labels)]))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image; objects that cover no pixel are left out.

        The target has one id map if no objects overlap, and several layers if some do.

        Raises:
            FileNotFoundError: When the image is missing.
            ValueError: When the image or its JSON file cannot be read, when they disagree about its size, or when a
                shape cannot be drawn.
        """
        file, image_file, expected = self._file(index), self._image_file(index), self._size(index)
        content = read_labelme(file)
        if image_file is not None:
            image = read_listed_image(image_file, self.reading)
        else:
            image = read_image(content.image(), reading=self.reading, name=str(file))
        size: Size = image.shape[:2]
        if expected is not None:
            check_size(image_file or file, size, expected, file)
        objects = (
            (self._label_of_name[shapes[0].label], False, content.pixels(shapes, size))
            for shapes in content.objects()
            if shapes[0].label in self._label_of_name
        )
        return Sample(image, file.stem, str(image_file or file), target=draw_objects(objects, size))

    def files(self, index: int) -> SampleFiles | None:
        """Return the image and its JSON file; None where the image is in it."""
        image, number = self._image_file(index), len(self._labels_of(index))
        if image is None:
            return None
        return SampleFiles(image, source=self._file(index), size=self._size(index), num_annotations=number)

    def stored_image(self, index: int) -> Image.Image | None:
        """Return an image that is in its JSON file as it is stored; None for files."""
        return None if self._image_file(index) is not None else read_labelme(self._file(index)).image()

    def labels_in(self, index: int) -> set[int]:
        """Return the labels of which an image has an object; nothing is read."""
        return {*self._labels_of(index).tolist()}

    def _labels_of(self, index: int) -> Integer[np.ndarray, " n"]:
        index = range(len(self))[index]
        return self._labels[slice(*self._bounds[index : index + 2])]

    def _file(self, index: int) -> Path:
        return Path(self._files[index])

    def _image_file(self, index: int) -> Path | None:
        name = self._images[index]
        return Path(name) if name else None

    def _size(self, index: int) -> Size | None:
        height, width = self._sizes[index].tolist()
        return (height, width) if height else None


class _Finder:
    """Finds images where annotations name them, and where people move them.

    Args:
        root: The folder that images must be in.
        folders: Where else they may lie than beside their annotation.
    """

    def __init__(self, root: Path, folders: Iterable[Path]) -> None:
        self._root = root
        self._folders = list(folders)
        self._images: dict[Path, dict[str, Path]] = {}

    def __call__(self, content: LabelmeFile) -> Path | None:
        """Return the image of a file; None if it is nowhere.

        It is where the file says; or it has the name that the file says, or that of the file itself, with any ending,
        beside the file or in one of the folders.
        """
        written = Path(os.path.normpath(content.file.parent / content.image_path))
        is_other = written.suffix.lower() != ".json"  # some versions wrote the name of the file itself
        if is_other and is_named_within(written, self._root) and written.is_file():
            return written
        name = PurePosixPath(content.image_path)
        for folder in dict.fromkeys([content.file.parent, *self._folders]):
            images = self._images_in(folder)
            for wanted in (name.name, name.stem, content.file.stem):
                if wanted in images:
                    return images[wanted]
        return None

    def _images_in(self, folder: Path) -> dict[str, Path]:
        """Return the images of a folder by their names, and by their names without endings."""
        if folder not in self._images:
            images = sorted(folder.iterdir()) if folder.is_dir() else []
            images = [image for image in images if image.name.lower().endswith(IMAGE_ENDINGS)]
            self._images[folder] = {image.stem: image for image in images} | {image.name: image for image in images}
        return self._images[folder]


def open_found(
    found: Found, *, problems: Problems, categories: CategoryList | None = None, void_ids: Collection[int] = ()
) -> Labelme:
    """Open what was found of a split.

    Args:
        found: Folder, split and `annotations`, and perhaps `images`, a folder where images are looked for, too.
        problems: Where to tell what is wrong.
        categories: What names the labels, see `categories_of`. None takes those that `labels.txt` lists, or else those
            of all shapes in all splits, sorted.
        void_ids: Ids of categories that are no label.

    Raises:
        DataError: When there are no images or labels; and what `problems` raises.
    """
    root, folder = Path(found.root), found.parts["annotations"]
    files = _json_files(folder)
    if not files:
        raise Problem("no-images", str(folder), "there are no JSON files of LabelMe.").error()
    listed = _listed(root, folder, categories)
    find_image = _Finder(root, _image_folders(found))
    entries = [entry for file in files if (entry := _entry(file, find_image, problems)) is not None]
    if listed is None:
        others = _labels_in(set(_files_of_all_splits(found)) - set(files))
        names = sorted({label for entry in entries for label in entry.labels} | others)
        if not names:
            raise Problem(
                "no-data", str(folder), "no JSON file has a shape with an area: nothing names labels."
            ).error()
        listed = categories_of(names, str(folder), is_thing=True)
    known = {category.name for category in listed}
    for entry in entries:
        unknown = next((label for label in entry.labels if label not in known), None)
        if unknown is not None:
            detail = f"there is no label {shown(unknown)}, only {shown(sorted(known))}. Correct it, or list it."
            problems.add("unknown-category", entry.file, detail, entry.image)
    kept = [entry for entry in entries if known.issuperset(entry.labels)]
    return Labelme(kept, listed, void_ids)


def _entry(file: Path, find_image: _Finder, problems: Problems) -> _Entry | None:
    """Return what is to be kept of a file; None where it cannot be used."""
    try:
        content = read_labelme(file)
    except DataError as error:
        problems.extend([error.problem])
        return None
    image = find_image(content)
    for shape in content.shapes:
        if shape.missing is not None:
            problems.add(shape.missing[0], file, f"{name_of(shape)}: {shape.missing[1]}", image, shape.box)
        elif content.size is not None and not _is_inside(shape.box, content.size):
            detail = f"{name_of(shape)}: it reaches out of its image; that is cut off."
            problems.add("outside-image", file, detail, image, shape.box)
    if not content.shapes:
        problems.add("unannotated-image", file, "it has no shape.", image)
    if image is None and content.image_data is None:
        detail = f"its image {shown(content.image_path)} is not there, nor in it, nor beside it"
        advice = "put it beside it, or name the folder of the images, data.images=FOLDER."
        problems.add("missing-image", file, f"{detail}: {advice}")
        return None
    return _Entry(file, image, content.size or (0, 0), [shapes[0].label for shapes in content.objects()])


def _is_inside(box: Box | None, size: Size) -> bool:
    return box is None or (min(box[:2]) >= 0 and box[2] <= size[1] and box[3] <= size[0])


def _labels_in(files: Iterable[Path]) -> set[str]:
    """Return the labels of files of other splits, which say themselves what is wrong with them."""
    labels: set[str] = set()
    for file in files:
        with suppress(DataError):
            labels.update(shapes[0].label for shapes in read_labelme(file).objects())
    return labels


def _listed(root: Path, folder: Path, given: CategoryList | None) -> list[Category] | None:
    """Return the categories that are listed: in the recipe, or in `labels.txt`; None where they are not."""
    if given is not None:
        return categories_of(*given_categories(given), is_thing=True)
    for file in (root / "labels.txt", folder.parent / "labels.txt"):
        if file.is_file():
            names = [line.strip() for _, line in read_lines(file)]
            return categories_of([name for name in names if name not in VOID_LABELS], str(file), is_thing=True)
    return None


def _json_files(place: Path) -> list[Path]:
    """Return the JSON files of a pattern, a folder, or the one file."""
    if "*" in place.name:
        return sorted(place.parent.glob(place.name))
    return sorted(place.glob("*.json")) if place.is_dir() else [place]


def _files_of_all_splits(found: Found) -> list[Path]:
    """Return the JSON files of all splits that the layout of one has."""
    root = Path(found.root)
    for layout in _LAYOUTS:
        path = layout.parts["annotations"]
        if root / path.format(split=found.split) == found.parts["annotations"]:
            return sorted(root.glob(path.format(split="*")))
    return []


def _image_folders(found: Found) -> list[Path]:
    root, split = Path(found.root), found.split
    given = [found.parts["images"]] if "images" in found.parts else []
    return [*given, *(root / name for name in (split, f"images/{split}", f"{split}/images", "images", "."))]


def _is_labelme(found: Found) -> bool:
    """Tell whether one of the first JSON files is LabelMe's, by its beginning and its end: it may be large."""
    return any(map(_has_shapes, _json_files(found.parts["annotations"])[:_LOOKED_AT]))


def _has_shapes(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - _HEAD))
        tail = stream.read()
    return any(re.search(rb'"shapes"\s*:\s*\[', part) for part in (head, tail))


_LAYOUTS = [
    Layout(parts={"annotations": path})
    for path in (
        "{split}/*.json",
        "{split}/annotations/*.json",
        "annotations/{split}/*.json",
        "labels/{split}/*.json",
        "*.json",
        "annotations/*.json",
        "labels/*.json",
    )
]

FORMATS = (
    Format(
        name="labelme",
        summary="LabelMe: a JSON file of shapes for each image",
        layouts=_LAYOUTS,
        open=open_found,
        tasks=("instance",),
        labels="`labels.txt`, `data.categories`, or else the labels of all shapes",
        options=frozenset(("categories",)),
        sniff=_is_labelme,
    ),
)
