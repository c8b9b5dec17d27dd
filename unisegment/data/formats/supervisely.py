# SPDX-License-Identifier: Apache-2.0
"""A project in Supervisely's format: `meta.json` names the classes, and each image has a JSON file of its objects.

Source:
    developer.supervisely.com, Supervisely annotation format: project structure, project meta and images.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from unisegment.data.annotated_images import (
    AnnotatedImages,
    SampleFiles,
    check_size,
    read_listed_image,
    without_void,
)
from unisegment.data.formats.format import SPLIT_NAMES, Format, Found, Layout
from unisegment.data.problems import Problem, Problems
from unisegment.data.reading.figures import KIND_OF_SHAPE, pixels_of_figure, with_area
from unisegment.data.reading.object_drawing import draw_objects
from unisegment.ops.json_reading import read_json
from unisegment.ops.json_values import INT32, read_each, read_text, read_whole_number, shown, value_of
from unisegment.structures import Category, Sample
from unisegment.types import Size

_NAMES_OF_SPLITS = frozenset(name for names in SPLIT_NAMES.values() for name in names)


class Supervisely(AnnotatedImages):
    """The images of some data sets of a project, in the order of their names.

    The JSON file of an image is read when the image is asked for. Its objects are polygons with holes, rectangles and
    bitmaps, and may overlap. Other figures (points, lines, graphs, cuboids) have no area and are left out. Labels are
    the classes in the order of `meta.json`, with ids from 0 on, all of them things.

    Args:
        meta_file: The file that lists the classes.
        folders: Folder of the images and folder of the JSON files of each data set.
        problems: Where it is told what is wrong.
        void_ids: Ids of classes that are no label; their objects are left out.

    Raises:
        FileNotFoundError: When there is no `meta.json`, or no image of a JSON file.
        ValueError: When `meta.json` is not as it must be, or no image is annotated.
    """

    def __init__(
        self,
        meta_file: Path,
        folders: Sequence[tuple[Path, Path]],
        *,
        problems: Problems,
        void_ids: Collection[int] = (),
    ) -> None:
        categories = _read_categories(meta_file, problems)
        super().__init__(without_void(categories, void_ids))
        self.void_ids = frozenset(void_ids)
        label_of = dict.fromkeys(void_ids, -1) | self.label_of
        self._label_of_name = {category.name: label_of[category.id] for category in categories}
        self._folders = folders
        found = [*_annotated(folders, problems)]
        if not found:
            raise Problem("no-images", str(meta_file.parent), "no image of it has a JSON file in a folder ann.").error()
        # Arrays rather than lists: worker processes would copy the memory of every Python object that they touch.
        self._places = np.array([place for place, _ in found], dtype=np.int32)
        self._names = np.array([name for _, name in found], dtype=np.str_)
        self._has_unique_names = max(Counter(name.rpartition(".")[0] for _, name in found).values()) == 1
        if problems.thorough:
            for index in range(len(self)):
                problems.extend(_without_area(*self._files(index)))

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image; objects that cover no pixel are left out.

        Raises:
            FileNotFoundError: When the image or its JSON file is missing.
            ValueError: When one of them cannot be read, when the image has another size than the JSON file says, or
                when an object cannot be drawn.
        """
        image_file, annotation_file = self._files(index)
        size, figures = _read_annotation(annotation_file)
        image = read_listed_image(image_file, self.reading)
        check_size(image_file, image.shape[:2], size, annotation_file)
        target = draw_objects(self._drawn(figures, size, annotation_file), size)
        name = image_file.stem if self._has_unique_names else f"{image_file.parent.parent.name}/{image_file.name}"
        return Sample(image, name, str(image_file), target=target)

    def files(self, index: int) -> SampleFiles:
        """Return the image, its JSON file, and what that says."""
        image_file, annotation_file = self._files(index)
        try:
            size, figures = _read_annotation(annotation_file)
            count = sum(self._label(figure, place, annotation_file) >= 0 for place, figure in with_area(figures))
        except ValueError:  # reading the sample says it
            return SampleFiles(image_file, source=annotation_file)
        return SampleFiles(image_file, source=annotation_file, size=size, num_annotations=count)

    def labels_in(self, index: int) -> set[int]:
        """Return the labels of the objects of an image, from its JSON file alone."""
        _, file = self._files(index)
        _, figures = _read_annotation(file)
        return {self._label(figure, place, file) for place, figure in with_area(figures)} - {-1}

    def _files(self, index: int) -> tuple[Path, Path]:
        images, annotations = self._folders[self._places[index]]
        name = self._names[index].item()
        return images / name, annotations / f"{name}.json"

    def _drawn(
        self, figures: Sequence[Any], size: Size, file: Path
    ) -> Iterator[tuple[int, bool, Int64[np.ndarray, " p"]]]:
        for place, figure in with_area(figures):
            label = self._label(figure, place, file)
            if label < 0:
                continue
            try:
                pixels = pixels_of_figure(figure, size)
            except ValueError as error:
                kind = KIND_OF_SHAPE[figure["geometryType"]]
                reason = str(error).removesuffix(".")
                detail = f"objects[{place}] cannot be drawn: {reason}. Correct or remove it."
                raise Problem(kind, str(file), detail).error() from error
            yield label, False, pixels

    def _label(self, figure: Any, place: int, file: Path) -> int:
        """Return the label of an object, -1 for one that is void."""
        name = figure["classTitle"]
        if name not in self._label_of_name:
            detail = f"objects[{place}] is of the class {shown(name)}, which meta.json does not list: list it there."
            raise Problem("unknown-category", str(file), detail).error()
        return self._label_of_name[name]


def _read_categories(meta_file: Path, problems: Problems) -> list[Category]:
    categories: dict[str, Category] = {}

    def add(entry: Mapping[str, Any]) -> None:
        name, shape = read_text(entry, "title"), value_of(entry, "shape", "any")
        if name in categories:
            raise ValueError(f"another class is called {name!r}, too")
        if shape not in (*KIND_OF_SHAPE, "any"):
            detail = f"the class {name!r} is of the shape {shown(shape)}, which has no area: its objects are left out."
            problems.add("empty-annotation", meta_file, detail)
        categories[name] = Category(len(categories), name, True, _color(value_of(entry, "color", None)))

    content = _read(meta_file)
    try:
        read_each(value_of(content, "classes"), "classes", add)
        if not categories:
            raise ValueError("classes lists nothing")
    except ValueError as error:
        raise Problem("wrong-structure", str(meta_file), f"{error}.").error() from error
    return [*categories.values()]


def _color(given: Any) -> tuple[int, int, int]:
    """Return what #RRGGBB stands for, grey for anything else: nothing but pictures needs it."""
    try:
        red, green, blue = bytes.fromhex(given.removeprefix("#"))
    except (AttributeError, TypeError, ValueError):
        return (128, 128, 128)
    return red, green, blue


def _annotated(folders: Sequence[tuple[Path, Path]], problems: Problems) -> Iterator[tuple[int, str]]:
    """Give the place of the folder and the name of each image, that of its JSON file without `.json`."""
    for place, (images, annotations) in enumerate(folders):
        there = {file.name for file in os.scandir(images) if file.is_file()} if images.is_dir() else set()
        for file in sorted(name for name in os.listdir(annotations) if name.endswith(".json")):
            name = file.removesuffix(".json")
            if name in there:
                yield place, name
            else:
                detail = f"there is no such file, but {annotations / file} is its annotation."
                problems.add("missing-image", images / name, detail)


def _read(file: Path) -> Any:
    try:
        return read_json(file, "it")
    except FileNotFoundError as error:
        raise Problem("no-data", str(file), "there is no such file.").error() from error
    except ValueError as error:
        raise Problem("broken-json", str(file), f"{error}: correct it, or export it again.").error() from error


def _read_annotation(file: Path) -> tuple[Size, list[Any]]:
    """Return the height and width of an image, and its figures, each with a shape and a class."""
    content = _read(file)
    try:
        size, figures = value_of(content, "size"), value_of(content, "objects")
        height, width = (read_whole_number(size, side, 1, INT32[1]) for side in ("height", "width"))
        read_each(figures, "objects", _check_figure)
    except ValueError as error:
        raise Problem("wrong-structure", str(file), f"it is no annotation of Supervisely: {error}.").error() from error
    return (height, width), figures


def _check_figure(figure: Mapping[str, Any]) -> None:
    for key in ("geometryType", "classTitle"):
        read_text(figure, key)


def _without_area(image: Path, file: Path) -> Iterator[Problem]:
    """Give the figures that are left out; what is wrong with the file itself, reading its sample says."""
    try:
        _, figures = _read_annotation(file)
    except ValueError:
        return
    kept = {place for place, _ in with_area(figures)}
    for place, figure in enumerate(figures):
        if place not in kept:
            shape = shown(figure["geometryType"])
            detail = f"objects[{place}] is of the shape {shape}, which has no area; it is left out."
            yield Problem("empty-annotation", str(file), detail, str(image))


def _open(found: Found, *, problems: Problems, void_ids: Collection[int] = ()) -> Supervisely:
    images, annotations = found.parts["images"], found.parts["annotations"]
    folders = [(images, annotations)]
    if "*" in annotations.parts:  # data sets of any names: all are one, but those that are called as a split
        data_sets = [
            folder
            for folder in sorted(Path(found.root).iterdir())
            if (folder / "ann").is_dir() and folder.name not in _NAMES_OF_SPLITS - {found.split}
        ]
        folders = [(folder / "img", folder / "ann") for folder in data_sets]
    return Supervisely(found.parts["meta"], folders, problems=problems, void_ids=void_ids)


FORMATS = (
    Format(
        name="supervisely",
        summary="Supervisely: `meta.json`, and a JSON file of polygons and bitmaps for each image",
        layouts=[
            Layout(parts={"meta": "meta.json", "annotations": "{split}/ann", "images": "{split}/img"}),
            Layout(parts={"meta": "meta.json", "annotations": "*/ann", "images": "*/img"}),
        ],
        open=_open,
        tasks=("instance",),
        labels="`meta.json`, in its order",
    ),
)
