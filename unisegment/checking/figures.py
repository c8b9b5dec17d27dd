# SPDX-License-Identifier: Apache-2.0
"""Summaries of samples in, counts and histograms of a part out, in memory that does not grow with the samples.

The one exception are 16 bytes for each image, by which equal ones are found.
"""

from array import array
from collections import Counter
from collections.abc import Mapping
from math import isqrt
from typing import Any

from unisegment.checking.sample_check import CheckedSample, Summary
from unisegment.structures import Category

_SMALL, _MEDIUM = 32**2, 96**2
"""Pixels from which COCO calls an object medium, and large."""
_SIZES_LISTED = 10
_TENTHS = 10


class Figures:
    """What the samples of a part hold, added up.

    Args:
        categories: The labels; None if they are unknown.
    """

    def __init__(self, categories: list[Category] | None) -> None:
        self._categories = categories or []
        self.opened = 0
        self.indices, self.digests = array("q"), array("q")
        self.label_map_modes: set[str] = set()
        self._file_kinds: Counter[str] = Counter()
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._longest_sides: Counter[int] = Counter()
        self._segments: Counter[int] = Counter()
        self._crowds: Counter[int] = Counter()
        self._pixels: Counter[int] = Counter()
        self._images: Counter[int] = Counter()
        self._per_image: Counter[int] = Counter()
        self._root_areas: Counter[int] = Counter()
        self._coco_sizes: Counter[str] = Counter()
        self._unlabelled_tenths: Counter[int] = Counter()
        self._unlabelled = self._all_pixels = 0

    def add(self, index: int, sample: CheckedSample) -> None:
        """Count one sample."""
        if sample.facts is not None:
            self._file_kinds[f"{sample.facts.format} {sample.facts.mode}"] += 1
            self.indices.append(index)
            self.digests.append(sample.facts.digest)
        if sample.map_mode is not None:
            self.label_map_modes.add(sample.map_mode)
        if sample.summary is not None:
            self.opened += 1
            self._add_summary(sample.summary)

    @property
    def has_objects(self) -> bool:
        """Whether there was a segment that is no crowd."""
        return self._segments.total() > self._crowds.total()

    def unused(self) -> list[Category]:
        """Return the categories of which nothing was seen."""
        return [category for label, category in enumerate(self._categories) if not self._segments[label]]

    def as_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON; see `unisegment.checking.report`."""
        return {
            "file_kinds": dict(self._file_kinds.most_common()),
            "image_sizes": [
                {"height": height, "width": width, "images": count}
                for (height, width), count in self._sizes.most_common(_SIZES_LISTED)
            ],
            "distinct_image_sizes": len(self._sizes),
            "longest_sides": _doublings(self._longest_sides),
            "categories": [self._category(label, category) for label, category in enumerate(self._categories)],
            "segments": sum(self._segments.values()),
            "segments_per_image": _doublings(self._per_image),
            "root_areas": _doublings(self._root_areas),
            "coco_sizes": {name: self._coco_sizes[name] for name in ("small", "medium", "large")},
            "unlabelled_share": self._unlabelled / self._all_pixels if self._all_pixels else None,
            "unlabelled_tenths": [self._unlabelled_tenths[tenth] for tenth in range(_TENTHS)],
        }

    def _add_summary(self, summary: Summary) -> None:
        pixels = summary.size[0] * summary.size[1]
        self._sizes[summary.size] += 1
        self._longest_sides[_exponent(max(summary.size))] += 1
        self._per_image[_exponent(len(summary.labels))] += 1
        self._images.update(set(summary.labels))
        self._all_pixels += pixels
        self._unlabelled += summary.unlabelled
        self._unlabelled_tenths[min(_TENTHS * summary.unlabelled // pixels, _TENTHS - 1)] += 1
        for label, area, is_crowd in zip(summary.labels, summary.areas, summary.is_crowd, strict=True):
            self._segments[label] += 1
            self._crowds[label] += is_crowd
            self._pixels[label] += area
            self._root_areas[_exponent(isqrt(area))] += 1
            self._coco_sizes["small" if area < _SMALL else "medium" if area < _MEDIUM else "large"] += 1

    def _category(self, label: int, category: Category) -> dict[str, Any]:
        return {
            "label": label,
            "id": category.id,
            "name": category.name,
            "is_thing": category.is_thing,
            "segments": self._segments[label],
            "crowds": self._crowds[label],
            "images": self._images[label],
            "pixels": self._pixels[label],
            "pixel_share": self._pixels[label] / self._all_pixels if self._all_pixels else None,
        }


def _exponent(number: int) -> int:
    """Return -1 for 0, 0 for 1, 1 for 2 and 3, 2 for 4 to 7, and so on."""
    return number.bit_length() - 1


def _doublings(counts: Mapping[int, int]) -> list[dict[str, int]]:
    """Return a histogram whose bins double: `from` (included), `to` (included), `count`, without gaps."""
    if not counts:
        return []
    bins = range(min(counts), max(counts) + 1)
    return [
        {
            "from": 0 if power < 0 else 2**power,
            "to": 0 if power < 0 else 2 ** (power + 1) - 1,
            "count": counts.get(power, 0),
        }
        for power in bins
    ]
