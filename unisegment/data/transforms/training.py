# SPDX-License-Identifier: Apache-2.0
"""What a recipe says about random changes of training images, as one function of a sample and a generator."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from unisegment.data.transforms.color import ssd_color
from unisegment.data.transforms.copy_paste import choose_objects, copy_paste
from unisegment.data.transforms.cropping import (
    MID_GREY,
    drop_empty_segments,
    flip,
    large_scale_jitter,
    pad,
    random_crop,
)
from unisegment.data.transforms.mosaic import mosaic, quarters
from unisegment.data.transforms.resizing import Nearest, resize, shortest_edge_size
from unisegment.ops.masks import segment_areas
from unisegment.structures import Sample
from unisegment.types import Size

_LONGEST_SIDE = 2**14
"""Pixels of images that are trained on."""
_LARGEST_SCALE = 10
_MOST_DRAWS = 100
"""How often an image is changed until a segment of it is left."""


class OtherSamples(NamedTuple):
    """What else there is besides the image that is changed.

    Args:
        draw: Gives another image each time, at random, by the generator of the first.
        region_labels: Labels of which an image has one segment at most: stuff, and in semantic data all.
    """

    draw: Callable[[], Sample]
    region_labels: Collection[int] = ()


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """What happens to a sample before training: flip, resize, crop, colours, large scale jitter, padding; others added.

    With a `crop_size`, the flip comes after the colours. So the order is the one of the original in both of its ways:
    flip and jitter (COCO), or resize, crop, colours, flip and padding (ADE20K, Cityscapes, Mapillary Vistas). Images
    that are added, in a mosaic or by copy-paste, are each changed in this way before.

    Args:
        flip_prob: Probability of mirroring, in [0, 1].
        shortest_edge: Length of the short side after resizing, in pixels, or a list of lengths, of which one is drawn
            for each image; None leaves the image as it is.
        longest_edge: Limit of the long side, in pixels; None means no limit.
        nearest: How targets are resized. `center` gives a new pixel the label at its centre. `corner` takes it from
            the upper left corner, which shifts labels by half a pixel: the original does so in semantic training.
        crop_size: Height and width of a window that is cut out at random, where the image is larger; None means no
            crop.
        crop_category_max_area: Share of the window's labelled pixels that each category should stay below, in (0, 1];
            up to 10 windows are drawn. 1 takes the first.
        pad_to_crop: Whether images smaller than `crop_size` are padded to it, with mid-grey and void.
        ssd_color: Whether brightness, contrast, saturation and hue change at random, as for SSD.
        jitter_size: Height and width that large scale jitter crops and pads to; None means no jitter.
        jitter_scale: Smallest and largest factor of the jitter.
        pad_value: Grey that images are padded with, from 0 (black) to 255.
        drop_empty: Whether segments without a pixel are left out at the end. The original does so in semantic training
            and, looking at polygons, for COCO's instances; otherwise it keeps their labels, to be found nowhere.
        redraw_empty: Whether an image that has lost all its segments is changed anew, from the beginning and up to 100
            times, until one is left. EoMT's code does so.
        mosaic_prob: Probability that an image is a mosaic of itself and three others around a random centre, in [0, 1].
            Each keeps the scale that it would have alone; what is cut out of it has the size of its part.
        copy_paste_prob: Probability that objects of another image, each with probability 1/2, are pasted over an image,
            mosaic or not, in [0, 1].

    Raises:
        ValueError: When a value is out of range, or has no effect.
    """

    flip_prob: float = 0.5
    shortest_edge: int | tuple[int, ...] | None = None
    longest_edge: int | None = None
    nearest: Nearest = "center"
    crop_size: Size | None = None
    crop_category_max_area: float = 1.0
    pad_to_crop: bool = False
    ssd_color: bool = False
    jitter_size: Size | None = None
    jitter_scale: tuple[float, float] = (0.1, 2.0)
    pad_value: int = MID_GREY
    drop_empty: bool = False
    redraw_empty: bool = False
    mosaic_prob: float = 0.0
    copy_paste_prob: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip_prob", "mosaic_prob", "copy_paste_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}.")
        if not 0 < self.crop_category_max_area <= 1:
            raise ValueError(f"crop_category_max_area must be in (0, 1], got {self.crop_category_max_area}.")
        if not 0 < self.jitter_scale[0] <= self.jitter_scale[1] <= _LARGEST_SCALE:
            raise ValueError(
                f"jitter_scale must be two factors above 0 and up to {_LARGEST_SCALE}, the smaller one first, got "
                f"{self.jitter_scale}."
            )
        if not 0 <= self.pad_value <= 255:
            raise ValueError(f"pad_value must be 0 to 255, got {self.pad_value}.")
        self._check_lengths()
        self._check_combination()

    def _check_lengths(self) -> None:
        for name in ("shortest_edge", "longest_edge", "crop_size", "jitter_size"):
            value = getattr(self, name)
            lengths = (value,) if isinstance(value, int) else value
            longest = 2**31 - 1 if name == "longest_edge" else _LONGEST_SIDE  # a large one is no limit
            if lengths is not None and not (lengths and min(lengths) >= 1 and max(lengths) <= longest):
                raise ValueError(f"{name} must be 1 to {longest:,} pixels, got {value}; null switches it off.")

    def _check_combination(self) -> None:
        if self.longest_edge is not None and self.shortest_edge is None:
            raise ValueError(f"longest_edge={self.longest_edge} only limits shortest_edge: set shortest_edge, too.")
        if self.crop_size is None and (self.pad_to_crop or self.crop_category_max_area < 1):
            raise ValueError("pad_to_crop and crop_category_max_area belong to a crop: set crop_size, too.")
        if self.crop_size is not None and self.jitter_size is not None:
            raise ValueError(
                f"jitter_size={self.jitter_size} crops already: leave out either it or crop_size={self.crop_size}."
            )

        if self.mosaic_prob and min(self.crop_size or self.jitter_size or (0,)) < 2:
            raise ValueError(
                "mosaic_prob needs the size of the mosaic: set jitter_size or crop_size, of 2 pixels or more."
            )

    def __call__(self, sample: Sample, generator: np.random.Generator, others: OtherSamples | None = None) -> Sample:
        """Return the changed sample; the same generator state gives the same result.

        Args:
            sample: Image and target.
            generator: Where every random number comes from.
            others: What mosaics and copy-paste draw from; they need it.

        Raises:
            ValueError: When a mosaic or copy-paste has no others.
        """
        if others is None and (self.mosaic_prob or self.copy_paste_prob):
            raise ValueError("mosaic_prob and copy_paste_prob need other images: give `others`.")
        changed = self._change_all(sample, generator, others)
        for _ in range(_MOST_DRAWS - 1):
            if not self.redraw_empty or not len(sample.target) or bool((segment_areas(changed.target) > 0).any()):
                break
            changed = self._change_all(sample, generator, others)
        return drop_empty_segments(changed) if self.drop_empty else changed

    def _change_all(self, sample: Sample, generator: np.random.Generator, others: OtherSamples | None) -> Sample:
        if others is not None and self.mosaic_prob and generator.uniform() < self.mosaic_prob:
            sample = self._mosaic(sample, generator, others)
        else:
            sample = self._change(sample, generator)
        if others is not None and self.copy_paste_prob and generator.uniform() < self.copy_paste_prob:
            other = self._change(others.draw(), generator)
            sample = copy_paste(sample, other, choose_objects(other.target, others.region_labels, generator))
        return sample

    def _mosaic(self, sample: Sample, generator: np.random.Generator, others: OtherSamples) -> Sample:
        size = self.crop_size or self.jitter_size
        assert size is not None
        samples = [sample, *(others.draw() for _ in range(3))]
        sizes = quarters(size, generator)
        parts = [self._change(item, generator, part) for item, part in zip(samples, sizes, strict=True)]
        return mosaic(parts, others.region_labels)

    def _change(self, sample: Sample, generator: np.random.Generator, size: Size | None = None) -> Sample:
        """Return one image changed; with a `size`, cut out and padded to it instead of that of the crop or jitter."""
        if self.crop_size is None:
            sample = self._flip(sample, generator)
        new_size = self._new_size(sample, generator)
        if self.crop_size is not None:
            max_area = self.crop_category_max_area
            sample = random_crop(sample, size or self.crop_size, max_area, generator, new_size, self.nearest)
        elif new_size is not None:
            sample = resize(sample, new_size, self.nearest)
        if self.ssd_color:
            sample = replace(sample, image=ssd_color(sample.image, generator))
        if self.crop_size is not None:
            sample = self._flip(sample, generator)
            if self.pad_to_crop or size:
                sample = pad(sample, size or self.crop_size, self.pad_value)
        if self.jitter_size is not None:
            jitter = self.jitter_size, self.jitter_scale, generator, self.nearest
            sample = large_scale_jitter(sample, *jitter, size, self.pad_value)
        return sample

    def _flip(self, sample: Sample, generator: np.random.Generator) -> Sample:
        return flip(sample) if generator.uniform() < self.flip_prob else sample

    def _new_size(self, sample: Sample, generator: np.random.Generator) -> Size | None:
        if self.shortest_edge is None:
            return None
        edges = self.shortest_edge
        edge = edges if isinstance(edges, int) else edges[generator.integers(len(edges))]
        return shortest_edge_size(sample.target.size, edge, self.longest_edge)
