# SPDX-License-Identifier: Apache-2.0
"""Images with a PNG file for each of their objects, all of one class, as the Data Science Bowl 2018 has them.

Source:
    kaggle.com, 2018 Data Science Bowl, data description: `stage1_train/ID/images/ID.png` and `stage1_train/ID/masks/`.
"""

from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from unisegment.data.annotated_images import (
    AnnotatedImages,
    SampleFiles,
    check_size,
    read_listed_image,
    without_void,
)
from unisegment.data.formats.format import Format, Found, Layout
from unisegment.data.formats.png_folders import CategoryList, categories_of, given_categories
from unisegment.data.problems import Problem, Problems
from unisegment.data.reading.image_reading import ImageReading
from unisegment.data.reading.label_maps import IMAGE_ENDINGS, Pairs, images_by_stem
from unisegment.data.reading.mask_files import open_mask
from unisegment.data.reading.object_drawing import draw_objects
from unisegment.files import require_folder
from unisegment.structures import Category, Sample


class PngPerObject(AnnotatedImages):
    """Images and folders of PNG files, one for each object, in the order of their names.

    A pixel of a PNG file that is not 0 belongs to the object; transparency is of no account. Objects may overlap.

    Args:
        pairs: The images and their folders of PNG files.
        category: The class of all objects.

    Raises:
        ValueError: When there are no images.
    """

    def __init__(self, pairs: Pairs, category: Category) -> None:
        super().__init__([category])
        if not pairs.files:
            detail = "there is no image with a folder of PNG files."
            raise Problem("no-images", str(pairs.image_dir), detail).error()
        self.image_dir, self.map_dir = pairs.image_dir, pairs.map_dir
        # Arrays rather than lists: worker processes would copy the memory of every Python object that they touch.
        self._images, self._folders, self._names = (
            np.array(column, dtype=np.str_) for column in zip(*pairs.files, strict=True)
        )

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image; objects that cover no pixel are left out.

        Raises:
            FileNotFoundError: When the image or its folder of PNG files is missing.
            ValueError: When one of them cannot be read, or a PNG file has another size than the image.
        """
        image_file = self.image_dir / self._images[index]
        image = read_listed_image(image_file, self.reading)
        size = image.shape[0], image.shape[1]
        target = draw_objects(((0, False, pixels) for pixels in self._objects(index, image_file, size)), size)
        return Sample(image, self._names[index].item(), str(image_file), target=target)

    def files(self, index: int) -> SampleFiles:
        """Return the image, and how many PNG files it has."""
        try:
            count = len(self._masks(index))
        except ValueError:  # reading the sample says it
            count = None
        return SampleFiles(self.image_dir / self._images[index], num_annotations=count)

    def labels_in(self, index: int) -> set[int]:
        """Return 0 if an image has an object, from its PNG files alone."""
        return {0} if any(_mask(file, self.reading).any() for file in self._masks(index)) else set()

    def _objects(self, index: int, image_file: Path, size: tuple[int, int]) -> Iterator[Int64[np.ndarray, " p"]]:
        for file in self._masks(index):
            mask = _mask(file, self.reading)
            check_size(file, mask.shape, size, image_file)
            yield np.flatnonzero(mask)

    def _masks(self, index: int) -> list[Path]:
        folder = self.map_dir / self._folders[index]
        if not folder.is_dir():
            raise Problem("missing-label-map", str(folder), _NO_FOLDER).error()
        names = sorted(folder.iterdir())
        masks = [name for name in names if name.suffix.lower() == ".png"]
        if not masks and names:
            detail = f"it holds no PNG file, but others, such as {names[0].name}: each object needs one."
            raise Problem("wrong-structure", str(folder), detail).error()
        return masks


_LOOKED_AT = 10
"""Folders of images of which one must hold a single image."""
_NO_FOLDER = "there is no such folder of PNG files for an image: make an empty one if the image shows no object."


def _mask(file: Path, reading: ImageReading) -> Bool[np.ndarray, "h w"]:
    stored = open_mask(file, reading)
    levels = np.asarray(stored)
    levels = levels.reshape(*levels.shape[:2], -1)
    return levels[..., : 1 if stored.mode == "LA" else 3].max(axis=2) > 0


def _own_folders(found: Found, problems: Problems) -> Iterator[tuple[str, str, str]]:
    """Give the samples of which each has a folder of its own: one image in `images`, and `masks`."""
    root = Path(found.root)
    for images in sorted(_image_folders(found)):
        folder = images.parent
        inner = [file for file in sorted(images.iterdir()) if _is_image(file)]
        if len(inner) != 1:
            detail = f"it must hold one image, but holds {len(inner)}: the PNG files in masks belong to one."
            problems.add("wrong-structure", images, detail)
        elif _has_masks(folder / "masks", inner[0], problems):
            image, masks = (path.relative_to(root).as_posix() for path in (inner[0], folder / "masks"))
            yield image, masks, folder.name


def _side_by_side(image_dir: Path, map_dir: Path, problems: Problems) -> Iterator[tuple[str, str, str]]:
    """Give the samples whose images are all in one folder, beside folders of PNG files that are called as they are."""
    require_folder(image_dir)
    require_folder(map_dir)
    names = [file.name for file in image_dir.iterdir() if _is_image(file)]
    image_of = images_by_stem(image_dir, names, IMAGE_ENDINGS, problems)
    for stem, image in image_of.items():
        if image is not None and _has_masks(map_dir / stem, image_dir / image, problems):
            yield image, stem, stem
    if problems.thorough:
        for folder in sorted(map_dir.iterdir()):
            if folder.is_dir() and folder.name not in image_of:
                problems.add("unlisted-label-map", folder, "no image is called as this folder of PNG files.")


def _has_masks(folder: Path, image: Path, problems: Problems) -> bool:
    if folder.is_dir():
        return True
    problems.add("missing-label-map", folder, _NO_FOLDER, image)
    return False


def _open(
    found: Found, *, problems: Problems, categories: CategoryList | None = None, void_ids: Collection[int] = ()
) -> PngPerObject:
    listed = categories_of(*given_categories(["object"] if categories is None else categories), is_thing=True)
    if len(listed) != 1:
        names = ", ".join(category.name for category in listed)
        raise ValueError(f"data.categories must name one class, that of all objects, got {names}.")
    category = without_void(listed, void_ids)[0]
    if "*" in found.parts["images"].parts:
        root = Path(found.root)
        return PngPerObject(Pairs(root, root, [*_own_folders(found, problems)]), category)
    folders = found.parts["images"], found.parts["annotations"]
    return PngPerObject(Pairs(*folders, [*_side_by_side(*folders, problems)]), category)


def _is_per_object(found: Found) -> bool:
    """Tell folders of PNG files for single images from folders of PNG files for whole splits."""
    if "*" in found.parts["images"].parts:
        folders = islice(_image_folders(found), _LOOKED_AT)
        return any(sum(map(_is_image, folder.iterdir())) == 1 for folder in folders)
    stems = {image.stem for image in found.parts["images"].iterdir() if _is_image(image)}
    return any(folder.name in stems and folder.is_dir() for folder in found.parts["annotations"].iterdir())


def _image_folders(found: Found) -> Iterator[Path]:
    root = Path(found.root)
    return root.glob(found.parts["images"].relative_to(root).as_posix())


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_ENDINGS and file.is_file()


def _of_own_folders(path: str) -> Layout:
    return Layout(parts={"images": f"{path}*/images", "annotations": f"{path}*/masks"})


def _of_two_folders(images: str, masks: str) -> Layout:
    return Layout(parts={"images": images, "annotations": masks, "sign": f"{masks}/*/*.png"})


FORMATS = (
    Format(
        name="png_per_object",
        summary="a folder of PNG files for each image, one for each object, as in the Data Science Bowl 2018",
        layouts=[
            _of_own_folders("{split}/"),
            _of_own_folders("stage1_train/"),
            _of_two_folders("{split}/images", "{split}/masks"),
            _of_two_folders("images/{split}", "masks/{split}"),
            _of_two_folders("images", "masks"),
            _of_own_folders(""),
        ],
        open=_open,
        tasks=("instance",),
        labels='"object", or the one in `data.categories`',
        options=frozenset(("categories",)),
        sniff=_is_per_object,
    ),
)
