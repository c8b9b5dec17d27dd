# SPDX-License-Identifier: Apache-2.0
"""Images with objects, and the same images with stuff, in; panoptic ones out."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64

from unisegment.data.annotated_images import AnnotatedImages, ImagesOfAnother
from unisegment.data.label_spaces import match_names
from unisegment.data.reading.object_drawing import draw_objects
from unisegment.data.writing.image_files import image_file
from unisegment.ops.masks import segment_index_maps
from unisegment.structures import Category, Sample, SegmentationTarget


class WithStuff(ImagesOfAnother):
    """Images of a data set, whose objects leave pixels free that the stuff of another data set fills.

    Categories are its own and then, of the other data set, those that are stuff and have no name of its own; their ids
    are kept unless they are taken. Images belong together by the names of their files, without folders and endings.

    Args:
        images: The images with objects.
        stuff: The same images, and perhaps others, with stuff.

    Raises:
        ValueError: When the other data set lacks an image or has two of its name, or has no stuff.
    """

    def __init__(self, images: AnnotatedImages, stuff: AnnotatedImages) -> None:
        names, others = ([category.name for category in items.categories] for items in (images, stuff))
        known = {place for place in match_names(others, names) if place is not None}
        labels = [label for label in stuff.stuff_label_ids if label not in known]
        if not labels:
            raise ValueError(f"There is no stuff to add: {others[:10]} are things, or have names of the objects.")
        taken = {category.id for category in images.categories}
        added = [_free(stuff.categories[label], taken) for label in labels]
        super().__init__(images, [*images.categories, *added])
        self._stuff = stuff
        self._new_labels = {label: len(names) + place for place, label in enumerate(labels)}
        self._places = _places(images, stuff)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image.

        Raises:
            ValueError: When the image is of another size in the other data set.
        """
        sample, other = self.images[index], self._stuff[int(self._places[index])]
        if sample.size != other.size:
            raise ValueError(
                f"{sample.file_name} is {sample.size[0]}x{sample.size[1]} (height x width), but {other.file_name} "
                f"{other.size[0]}x{other.size[1]}: resize one of them, with its annotation."
            )
        return replace(sample, target=draw_objects(self._segments(sample.target, other.target), sample.size))

    def _segments(
        self, objects: SegmentationTarget, stuff: SegmentationTarget
    ) -> Iterator[tuple[int, bool, Int64[np.ndarray, " p"]]]:
        is_free = torch.stack([found < 0 for found in segment_index_maps(objects)]).all(dim=0)
        for place, (label, is_crowd) in enumerate(zip(objects.labels.tolist(), objects.is_crowd.tolist(), strict=True)):
            yield label, is_crowd, np.flatnonzero(objects.mask(place).numpy())
        for place, label in enumerate(stuff.labels.tolist()):
            if label in self._new_labels:
                yield self._new_labels[label], False, np.flatnonzero((stuff.mask(place) & is_free).numpy())


def _free(category: Category, taken: set[int]) -> Category:
    """Return a category with an id that no other has, its own if it can be, and take that."""
    number = category.id if category.id not in taken else max(taken) + 1
    taken.add(number)
    return replace(category, id=number)


def _places(images: AnnotatedImages, stuff: AnnotatedImages) -> Int64[np.ndarray, " n"]:
    """Return the place in the other data set of each image."""
    place_of: dict[str, int] = {}
    repeated = set()
    for place in range(len(stuff)):
        stem = _stem(stuff, place)
        if place_of.setdefault(stem, place) != place:
            repeated.add(stem)
    stems = [_stem(images, place) for place in range(len(images))]
    missing = next((stem for stem in stems if stem not in place_of), None)
    if missing is not None:
        raise ValueError(f"The data set with stuff has no image {missing}: add it, or leave that image out.")
    if doubtful := next((stem for stem in stems if stem in repeated), None):
        raise ValueError(f"The data set with stuff has several images {doubtful}: rename one of them.")
    return np.array([place_of[stem] for stem in stems], dtype=np.int64)


def _stem(images: AnnotatedImages, place: int) -> str:
    file = image_file(images, place)
    if file is None:
        raise ValueError("Images of two data sets belong together by the names of their files, but one has none.")
    return file.stem
