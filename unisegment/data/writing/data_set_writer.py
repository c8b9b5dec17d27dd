# SPDX-License-Identifier: Apache-2.0
"""What all writers of data sets share: which segments a format can hold, and the order in which things are written.

An image's own files are written first; what it leaves behind for the files of the whole is returned, as JSON can hold
it, so that a conversion that was stopped goes on.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from unisegment.data.export.format import Parts
from unisegment.files import inside
from unisegment.ops.masks import segment_areas, segment_index_map
from unisegment.structures import Category, SegmentationTarget
from unisegment.types import Size

LOST: Mapping[str, str] = {
    "stuff": "segments of stuff, as the format is for objects alone",
    "crowds": "crowds, which the format cannot tell from objects",
    "unseen": "segments without a pixel",
    "hidden": "objects that others hide, as the format has one segment for each pixel",
    "covered": "pixels of objects on which others lie, for the same reason",
}
"""What a format may lack the means for, and why."""


class WrittenImage(NamedTuple):
    """An image of a data set that is written.

    Args:
        image_id: Number or name of it where it comes from.
        stem: What files that belong to it are named after; no two images of a split have the same.
        file_name: Its file, relative to the folder of the images of the split.
        size: Height and width in pixels, upright.
    """

    image_id: int | str
    stem: str
    file_name: str
    size: Size


class DataSetWriter:
    """Writes annotated images of one split or several, and then what those of a split, and all, have in common.

    Args:
        output: Folder that everything goes to.
        categories: Those of the images; the place in the list is the label.

    Attributes:
        categories: Those that are written, as a reader of the format numbers them. Ids are kept where the format can
            hold them.

    Raises:
        ValueError: When no category can be written.
    """

    holds_stuff: ClassVar[bool] = True
    holds_crowds: ClassVar[bool] = True
    holds_overlaps: ClassVar[bool] = False
    places: ClassVar[Mapping[str, str]] = {}
    """Where the annotations of a split are, by their role in the format's layouts, where the format names the files of
    images, so that these may lie elsewhere."""
    part_kinds: ClassVar[Mapping[str, type]] = {}
    """What `write` returns: its keys, and what is under them."""
    ids: ClassVar[range] = range(2**31)
    """Ids of categories that the format can hold."""
    image_folder: ClassVar[str] = "images/{split}"
    """Where the images of a split lie."""

    def __init__(self, output: Path, categories: Sequence[Category]) -> None:
        self.output = output
        kept = [label for label, category in enumerate(categories) if category.is_thing or self.holds_stuff]
        if not kept:
            raise ValueError(
                f"There is nothing to write: all {len(categories)} categories are stuff, such as "
                f"{categories[0].name!r}, and the format holds objects alone. Connected regions become objects with "
                "--components 8; or take a format that holds stuff."
            )
        order = sorted(kept, key=lambda label: categories[label].id)
        ids = self.new_ids([categories[label].id for label in order])
        self.categories = [replace(categories[label], id=number) for label, number in zip(order, ids, strict=True)]
        self._new_labels = torch.full((len(categories),), -1)
        self._new_labels[order] = torch.arange(len(order))

    def new_ids(self, ids: list[int]) -> list[int]:
        """Return the id in the files of each category: that in the data set, where the format can hold all of these."""
        fits = len(set(ids)) == len(ids) and all(number in self.ids for number in ids)
        return ids if fits else list(range(1, len(ids) + 1))

    def check_categories(self, categories: Sequence[Category]) -> None:
        """Raise a ValueError unless categories that were read back are those that were written."""
        read, written = (
            [(category.id, category.name, category.is_thing) for category in items]
            for items in (categories, self.categories)
        )
        if read != written:
            raise ValueError(f"The categories that were written are {written[:5]} …, but those read back {read[:5]} ….")

    def fitted(self, target: SegmentationTarget) -> tuple[SegmentationTarget, dict[str, int]]:
        """Return what the format can hold of a target, with the labels of `categories`, and how much it cannot.

        Where a pixel may belong to one segment alone, smaller ones lie on larger ones, and crowds beneath all.
        """
        labels = self._new_labels[target.labels]
        is_unseen = segment_areas(target) == 0
        is_stuff = ~is_unseen & (labels < 0)
        is_crowd = ~is_unseen & ~is_stuff & target.is_crowd if not self.holds_crowds else torch.zeros_like(is_stuff)
        kept = replace(target, labels=labels).select(~(is_unseen | is_stuff | is_crowd))
        fitted = kept if self.holds_overlaps else without_overlaps(kept)
        counts = {
            "stuff": int(is_stuff.sum()),
            "crowds": int(is_crowd.sum()),
            "unseen": int(is_unseen.sum()),
            "hidden": len(kept) - len(fitted),
            "covered": int(segment_areas(kept).sum() - segment_areas(fitted).sum()),
        }
        return fitted, {name: count for name, count in counts.items() if count}

    def keys(self, target: SegmentationTarget) -> Sequence[Hashable]:
        """Return what tells the segments of a target apart in the files: those of one key become one."""
        return range(len(target))

    def summary(self, target: SegmentationTarget) -> list[list[int]]:
        """Return label, whether it is a crowd, and pixels of each segment, sorted: what reading back must give."""
        segments: dict[Hashable, list[int]] = {}
        columns = (target.labels.tolist(), target.is_crowd.int().tolist(), segment_areas(target).tolist())
        for key, label, is_crowd, area in zip(self.keys(target), *columns, strict=True):
            segments.setdefault(key, [label, is_crowd, 0])[2] += area
        return sorted(segments.values())

    def write(self, split: str, image: WrittenImage, target: SegmentationTarget) -> dict[str, Any]:
        """Write the files of one image, without the image.

        Args:
            split: Name of the split.
            image: The image.
            target: What `fitted` returns.

        Returns:
            What `finish` needs of it, as JSON can hold it.

        Raises:
            ValueError: When the format cannot hold it.
            WriteError: When something cannot be written.
        """
        raise NotImplementedError

    def finish(self, split: str, parts: Parts) -> None:
        """Write the files of all images of a split together, without holding what all of them left behind."""

    def close(self, splits: Sequence[str]) -> None:
        """Write the files of all splits together."""

    def place(self, name: str) -> Path:
        """Return the path of a file in `output`; see `unisegment.files.inside`."""
        return inside(self.output, name)


def without_overlaps(target: SegmentationTarget) -> SegmentationTarget:
    """Return a target with one id map: smaller segments on larger ones, crowds beneath; hidden ones are left out.

    Of segments of one size the later one is on top. A target whose segments do not overlap keeps all of them, and its
    ids where it has them.
    """
    if target.layers is None and target.masks is None:
        return target
    if not target.has_overlaps():
        return _of_index_map(target, segment_index_map(target))
    areas = segment_areas(target)
    index_map = torch.full(target.size, -1)
    for place in sorted(range(len(target)), key=lambda place: (not target.is_crowd[place], -int(areas[place]))):
        index_map[target.mask(place)] = place
    return _of_index_map(target, index_map)


def _of_index_map(target: SegmentationTarget, index_map: Int64[Tensor, "h w"]) -> SegmentationTarget:
    flat = SegmentationTarget(
        labels=target.labels,
        id_map=(index_map + 1).to(torch.int32),
        segment_ids=torch.arange(1, len(target) + 1),
        is_crowd=target.is_crowd,
    )
    return flat.select(segment_areas(flat) > 0)


def numbered_map(target: SegmentationTarget, numbers: Sequence[int], void: int) -> Int64[np.ndarray, "h w"]:
    """Return the number of each pixel's segment.

    Args:
        target: Segments that do not overlap.
        numbers: Number of each.
        void: Number of pixels of none.
    """
    # The last one is what void finds, whose index is -1.
    return np.array([*numbers, void], dtype=np.int64)[segment_index_map(target).numpy()]
