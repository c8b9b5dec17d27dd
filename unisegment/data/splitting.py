# SPDX-License-Identifier: Apache-2.0
"""A data set in, some of its images out: those of a split, of a share drawn at random, or with objects."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Int64

from unisegment.data.annotated_images import AnnotatedImages, ImagesOfAnother, may_have_objects
from unisegment.structures import Sample

Part = Callable[[AnnotatedImages], AnnotatedImages]
"""Takes all images of a data set, and returns some of them."""


class SomeImages(ImagesOfAnother):
    """Some images of a data set, in its order.

    Args:
        images: All images.
        places: Which of them, in ascending order.
    """

    def __init__(self, images: AnnotatedImages, places: Int64[np.ndarray, " n"]) -> None:
        super().__init__(images, images.categories)
        self._places = places
        if images.block_bounds is not None:
            self.block_bounds = np.unique(np.searchsorted(places, images.block_bounds))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image, as the whole data set does."""
        return self.images[self._place(index)]

    def labels_in(self, index: int) -> set[int]:
        """Return the labels of which an image has a segment that is no crowd."""
        return self.images.labels_in(self._place(index))

    def numbers(self, index: int) -> set[int] | None:
        """Return what the whole data set does."""
        return self.images.numbers(self._place(index))

    def _place(self, index: int) -> int:
        return int(self._places[index])


def only_annotated(images: AnnotatedImages) -> SomeImages:
    """Return the images that have objects, and those that cannot be read, for others to deal with.

    Source:
        detectron2 (Apache-2.0), filter_images_with_only_crowd_annotations.
    """
    places = [place for place in range(len(images)) if may_have_objects(images, place)]
    return SomeImages(images, np.array(places, dtype=np.int64))


def part_of_split(split: str, splits: Mapping[str, str] | None, val_share: float | None, seed: int) -> tuple[str, Part]:
    """Return the split of the files that holds a split's images, and a function that picks them.

    Args:
        split: Name of the split that is wanted.
        splits: As in `open_data_set`.
        val_share: As there.
        seed: `split_seed` there.

    Raises:
        ValueError: When both are given, or one is not as it must be.
    """
    if val_share is not None and (splits or not 0 < val_share < 1):
        raise ValueError(
            f"val_share must be above 0 and below 1, and alone, without splits; got {val_share} and {splits or None}."
        )
    if val_share is not None and split in ("train", "val"):
        share = val_share
        return "train", lambda images: _drawn(images, share, seed, is_held_out=split == "val")
    spec = (splits or {}).get(split)
    if spec is None:
        return split, lambda images: images
    if "+" in spec:
        raise ValueError(f"data.splits: {spec} must be one split, perhaps with one range, such as train[:90%].")
    return spec.partition("[")[0], lambda images: _rows(images, spec)


def _drawn(images: AnnotatedImages, share: float, seed: int, is_held_out: bool) -> AnnotatedImages:
    number = round(share * len(images))
    if not 0 < number < len(images):
        raise ValueError(
            f"data.val_share={share} of {len(images)} images is {number}: choose a share that leaves at least one for "
            "training and one for evaluation."
        )
    order = np.random.default_rng(seed).permutation(len(images))
    return SomeImages(images, np.sort(order[:number] if is_held_out else order[number:]))


def _rows(images: AnnotatedImages, spec: str) -> AnnotatedImages:
    if "[" not in spec:
        return images
    from datasets import ReadInstruction  # a second, which only this needs

    name = spec.partition("[")[0]
    try:
        (part,) = ReadInstruction.from_spec(spec).to_absolute({name: len(images)})
    except ValueError as error:
        detail = f"{spec} must be a split with a range of its {len(images)} images, such as train[:90%] or train[10:20]"
        raise ValueError(f"data.splits: {detail}: {error}") from error
    if part.from_ >= part.to:
        raise ValueError(f"data.splits: {spec} is none of the {len(images)} images.")
    return SomeImages(images, np.arange(part.from_, part.to))
