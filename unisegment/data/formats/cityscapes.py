# SPDX-License-Identifier: Apache-2.0
"""Cityscapes (`leftImg8bit` and `gtFine`), semantic and instance. For panoptic see `CocoPanoptic.from_folder`."""

from collections.abc import Collection
from pathlib import Path

from unisegment.data.annotated_images import categories_from_table
from unisegment.data.categories import CITYSCAPES
from unisegment.data.reading.label_maps import LabelMaps, pair_files

_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Numbers of the 19 labels that are judged in `labelIds` files, in the order of `CITYSCAPES`.

Source:
    cityscapesScripts, labels.py.
"""
_ALL_IDS = range(34)


class CityscapesSemantic(LabelMaps):
    """The 19 labels that are judged; all others are void."""

    @classmethod
    def from_folder(cls, root: str | Path, split: str, void_ids: Collection[int] = ()) -> "CityscapesSemantic":
        """Open `leftImg8bit/{split}/` and the PNG files in `gtFine/{split}/`, city by city.

        The PNG files are those that end in `_gtFine_labelIds.png`, which Cityscapes is handed out with, or, if there is
        none of them, those that end in `_gtFine_labelTrainIds.png`: both come to the same labels.

        Args:
            root: The folder of the data set.
            split: Name of the part.
            void_ids: See `LabelMaps`.

        Raises:
            FileNotFoundError: When images are missing, or PNG files of images.
        """
        if any((Path(root) / "gtFine" / split).rglob("*_gtFine_labelIds.png")):
            files = _files(root, split, "labelIds")
            return cls(root, files, categories_from_table(_IDS, CITYSCAPES), void=_ALL_IDS, void_ids=void_ids)
        files = _files(root, split, "labelTrainIds")
        return cls(root, files, categories_from_table(range(19), CITYSCAPES), void={255}, void_ids=void_ids)


class CityscapesInstance(LabelMaps):
    """The eight labels that are things; all others are void. Groups of objects that nobody told apart are crowds."""

    @classmethod
    def from_folder(cls, root: str | Path, split: str, void_ids: Collection[int] = ()) -> "CityscapesInstance":
        """Open `leftImg8bit/{split}/` and the files `…_gtFine_instanceIds.png` in `gtFine/{split}/`, city by city.

        Args:
            root: The folder of the data set.
            split: Name of the part.
            void_ids: See `LabelMaps`.

        Raises:
            FileNotFoundError: When images are missing, or PNG files of images.
        """
        things = [category for category in categories_from_table(_IDS, CITYSCAPES) if category.is_thing]
        files = _files(root, split, "instanceIds")
        return cls(root, files, things, void=_ALL_IDS, label_divisor=1000, void_ids=void_ids)


def _files(root: str | Path, split: str, kind: str) -> list[tuple[str, str, str]]:
    folders = f"leftImg8bit/{split}", f"gtFine/{split}"
    return pair_files(Path(root), *folders, ("_leftImg8bit.png",), f"_gtFine_{kind}.png")
