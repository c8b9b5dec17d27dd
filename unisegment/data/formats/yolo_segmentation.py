# SPDX-License-Identifier: Apache-2.0
"""YOLO's segmentation format in, annotated images out: a text file of polygons for each image.

A line of a text file is an object, `class x y x y …`: the corners of its polygon as fractions of the width and height
of the image, upright as its EXIF data say. The text file of `…/images/a/b.jpg` is `…/labels/a/b.txt`; where no folder
is called `images`, it lies beside the image. An image without a text file, or with an empty one, shows no object.

Source:
    https://docs.ultralytics.com/datasets/segment/ (lines, `data.yaml`);
    https://docs.cvat.ai/docs/dataset_management/formats/format-yolo-ultralytics/ (`data.yaml` with lists of images);
    https://labelstud.io/guide/export#YOLO (`classes.txt`); that fractions are those of upright images: `exif_size` in
    ultralytics/data/utils.py.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from unisegment.data.annotated_images import AnnotatedImages, SampleFiles, read_listed_image, without_void
from unisegment.data.formats.format import Format, Found, Layout
from unisegment.data.formats.png_folders import CategoryList, categories_of, given_categories
from unisegment.data.problems import DataError, Problem, Problems
from unisegment.data.reading.label_maps import images_under
from unisegment.data.reading.object_drawing import draw_objects
from unisegment.data.reading.packed_columns import PackedTexts
from unisegment.data.reading.text_lines import read_lines
from unisegment.data.reading.yolo_lines import YoloObject, pixels_of, read_objects
from unisegment.data.reading.yolo_settings import YoloSettings, find_settings
from unisegment.structures import Category, Sample
from unisegment.types import Size


class YoloSegmentation(AnnotatedImages):
    """Images with one text file each, in the order of their names. Text files are read when they are asked for.

    Args:
        images: The image files, absolute or relative to the working directory.
        categories: The labels; `id` is the class in the text files.
        folders: Folder of all images and that of all text files, where the paths of images do not say where theirs are.
        void_ids: Classes that are no label; their objects are left out.

    Raises:
        ValueError: When no label is left.
    """

    def __init__(
        self,
        images: Sequence[Path],
        categories: list[Category],
        *,
        folders: tuple[Path, Path] | None = None,
        void_ids: Collection[int] = (),
    ) -> None:
        super().__init__(without_void(categories, void_ids))
        self.void_ids = frozenset(void_ids)
        self._folders = folders
        self._images = PackedTexts(map(os.fspath, images))
        has_own_stems = len({image.stem for image in images}) == len(images)
        folder_names = {os.path.abspath(image.parent) for image in images}
        self._common = None if has_own_stems else os.path.commonpath(folder_names)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image; objects that cover no pixel are left out.

        The target has one id map if no objects overlap, and several layers if some do.

        Raises:
            FileNotFoundError: When the image is missing.
            ValueError: When the image or its text file cannot be read, or an object cannot be drawn.
        """
        file = self.image_file(index)
        image = read_listed_image(file, self.reading)
        size: Size = image.shape[:2]
        text_file = self.text_file(index)
        objects = (
            (self.label_of[item.category_id], False, pixels_of(item, size, text_file)) for item in self.objects(index)
        )
        return Sample(image, self._name(file), str(file), target=draw_objects(objects, size))

    def image_file(self, index: int) -> Path:
        """Return the file of an image."""
        return Path(self._images[index])

    def text_file(self, index: int) -> Path:
        """Return where the text file of an image is, or would be."""
        image = self.image_file(index)
        if self._folders is not None:
            return self._folders[1] / image.relative_to(self._folders[0]).with_suffix(".txt")
        parts = list(image.parts)
        places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
        if places:
            parts[places[-1]] = "labels"
        return Path(*parts).with_suffix(".txt")

    def objects(self, index: int) -> Iterator[YoloObject]:
        """Give the objects of an image that are not void, as its text file has them.

        Raises:
            DataError: When a line is not in the format.
        """
        known = self.label_of.keys() | self.void_ids
        return (item for item in read_objects(self.text_file(index), known) if item.category_id in self.label_of)

    def files(self, index: int) -> SampleFiles:
        """Return the image and its text file."""
        try:
            number = sum(len(item.polygon) >= 6 for item in self.objects(index))
        except DataError:  # which whoever reads the image is told
            number = 0
        return SampleFiles(self.image_file(index), source=self.text_file(index), num_annotations=number)

    def labels_in(self, index: int) -> set[int]:
        """Return the labels of which an image has an object, from its text file alone.

        Raises:
            DataError: When a line is not in the format.
        """
        return {self.label_of[item.category_id] for item in self.objects(index) if len(item.polygon) >= 6}

    def _name(self, image: Path) -> str:
        """Return the name of an image without its ending, and with its folders where names alone are not different."""
        if self._common is None:
            return image.stem
        return Path(os.path.relpath(image, self._common)).with_suffix("").as_posix()


def open_found(
    found: Found, *, problems: Problems, categories: CategoryList | None = None, void_ids: Collection[int] = ()
) -> YoloSegmentation:
    """Open what was found of a split.

    Args:
        found: Folder and split; `images` and `annotations` where no YAML file lists the images.
        problems: Where to tell what is wrong.
        categories: What names the classes, instead of the YAML file or `classes.txt`; see `categories_of`.
        void_ids: Classes that are no label.

    Raises:
        DataError: When the YAML file is not as it must be, or images or all text files are missing.
    """
    root = Path(found.root)
    settings = find_settings(root)
    listed = categories_of(*_names(root, settings, categories), is_thing=True)
    folders = None
    if found.parts:
        folders = found.parts["images"], found.parts["annotations"]
        where, images = folders[0], sorted(images_under(folders[0]), key=os.fspath)
    else:
        assert settings is not None
        where, images = settings.file, settings.images(found.split)
    if not images:
        raise Problem("no-images", str(where), f"there are no images of the split {found.split!r}.").error()
    opened = YoloSegmentation(images, listed, folders=folders, void_ids=void_ids)
    if not any(opened.text_file(place).is_file() for place in range(len(opened))):
        expected = f"such as {opened.text_file(0)} for {opened.image_file(0)}"
        raise Problem("no-data", str(where), f"none of {len(opened)} images has a text file, {expected}.").error()
    if problems.thorough:
        for place in range(len(opened)):
            _warn(opened, place, problems)
    return opened


def _names(root: Path, settings: YoloSettings | None, given: CategoryList | None) -> tuple[object, str]:
    """Return what names the classes, and what that is called in messages."""
    if given is not None:
        return given_categories(given)
    if settings is not None:
        return settings.names(), f"{settings.file}: names"
    file = root / "classes.txt"
    if file.is_file():
        return [line.strip() for _, line in read_lines(file)], str(file)
    raise Problem(
        "no-data",
        str(root / "data.yaml"),
        "there is no such file, nor a classes.txt: nothing names the classes. Name them in the recipe, "
        "data.categories=[cat, dog], where the first is the class 0.",
    ).error()


def _warn(images: YoloSegmentation, place: int, problems: Problems) -> None:
    """Tell what training accepts of an image. What it does not accept, it says when it reads the image."""
    image, file, seen = images.image_file(place), images.text_file(place), set()
    if not file.is_file():
        detail = f"there is no {file}: the image is taken for one without objects."
        problems.add("unannotated-image", image, detail, image)
    try:
        for item in images.objects(place):
            line, content = f"line {item.line}", (item.category_id, item.polygon.tobytes())
            if len(item.polygon) < 6:
                detail = f"{line}: a polygon has fewer than three points; it is left out."
                problems.add("degenerate-polygon", file, detail, image)
            elif item.polygon.min() < 0 or item.polygon.max() > 1:
                detail = f"{line}: a polygon reaches out of its image; that is cut off."
                problems.add("outside-image", file, detail, image)
            if content in seen:
                problems.add("duplicate-annotation", file, f"{line}: the same polygon is on a line before.", image)
            seen.add(content)
    except DataError:
        return


def _has_text_files(found: Found) -> bool:
    return not found.parts or next(found.parts["annotations"].rglob("*.txt"), None) is not None


def _splits(root: Path) -> Sequence[str]:
    settings = find_settings(root)
    return settings.splits if settings is not None else ()


FORMATS = (
    Format(
        name="yolo_segmentation",
        summary="YOLO segmentation (Ultralytics, Roboflow, CVAT, Label Studio): a text file of polygons for each image",
        layouts=[
            Layout(parts={"images": "images/{split}", "annotations": "labels/{split}"}),
            Layout(parts={"images": "{split}/images", "annotations": "{split}/labels"}),
            Layout(parts={"images": "images", "annotations": "labels", "sign": "labels/*.txt"}),
        ],
        open=open_found,
        tasks=("instance",),
        labels="`names` in `data.yaml`, `classes.txt`, or `data.categories`",
        options=frozenset(("categories",)),
        sniff=_has_text_files,
        splits=_splits,
    ),
)
