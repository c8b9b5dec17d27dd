# SPDX-License-Identifier: Apache-2.0
"""Two annotated images in, the first with objects of the second laid over it out.

Source:
    Simple Copy-Paste (arXiv 2012.07177): a random subset of the objects, at the place that their own image's flip and
    jitter gave them, with hard edges, as blending made no difference.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from unisegment.data.transforms.numbered_maps import NumberedMaps
from unisegment.ops.masks import segment_areas
from unisegment.structures import Sample, SegmentationTarget


def choose_objects(
    target: SegmentationTarget, region_labels: Collection[int], generator: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Return whether each segment is to be pasted: an object that has a pixel and is no crowd, with probability 1/2.

    Args:
        target: The segments.
        region_labels: Labels that are never pasted: stuff, and in semantic data all.
        generator: Where one number for each such object comes from.
    """
    is_object = (segment_areas(target) > 0).numpy() & ~target.is_crowd.numpy()
    is_object &= ~np.isin(target.labels.numpy(), [*region_labels])
    is_object[is_object] = generator.random(np.count_nonzero(is_object)) < 0.5
    return is_object


def copy_paste(sample: Sample, other: Sample, is_pasted: Bool[np.ndarray, " n"]) -> Sample:
    """Lay segments of another image over an image, at their own place; what lies beyond the image is cut off.

    What they cover is taken from the segments below, of which those that lose all their pixels are left out. The pasted
    ones come last, and overlap each other where they did.

    Args:
        sample: The image below.
        other: The other image, of any size.
        is_pasted: Which of its segments are pasted.
    """
    below, above = NumberedMaps.of(sample.target), NumberedMaps.of(other.target)
    height, width = (min(lengths) for lengths in zip(sample.target.size, other.target.size, strict=True))
    numbers = np.arange(1, len(is_pasted) + 1, dtype=np.int32) + len(below.labels)
    pasted = np.append(np.int32(0), numbers * is_pasted)[above.maps[:, :height, :width]]
    is_covered = pasted.any(axis=0)
    if not is_covered.any():
        return sample
    image = np.array(sample.image)  # keeps the order in memory
    np.copyto(image[:height, :width], other.image[:height, :width], where=is_covered[..., None])
    maps = np.zeros((max(len(below.maps), len(pasted)), *sample.target.size), dtype=np.int32)
    maps[: len(below.maps)] = below.maps
    window = maps[:, :height, :width]
    np.copyto(window[: len(pasted)], pasted, where=is_covered)
    np.copyto(window[len(pasted) :], 0, where=is_covered)
    joined = NumberedMaps(maps, *map(np.concatenate, zip(below[1:], above[1:], strict=True)))
    was_empty = np.append((segment_areas(sample.target) == 0).numpy(), np.zeros_like(is_pasted))
    file_name = f"{sample.file_name} + {other.file_name}"
    return replace(sample, image=image, target=joined.target(was_empty), file_name=file_name)
