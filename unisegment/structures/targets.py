# SPDX-License-Identifier: Apache-2.0
"""What goes in: categories, and images with what is to be found in them. Axes: see `unisegment.types`."""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Int, Integer, UInt8
from torch import Tensor

from unisegment.types import Size


@dataclass(frozen=True)
class Category:
    """One class of a data set.

    Args:
        id: The data set's own number of the class (not its index among the model's labels).
        name: Its name, as in the data set.
        is_thing: True for countable objects (car), False for stuff (sky).
        color: Red, green and blue in 0..255, for drawing.
    """

    id: int
    name: str
    is_thing: bool
    color: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationTarget:
    """What is to be found in one image: n segments, each with a label.

    Segments that do not overlap are given as one `id_map` with `segment_ids`. Segments of which some overlap are given
    as several such maps, `layers`, in each of which no two overlap; or as `masks`. Maps take (h, w) integers whatever n
    is, masks n times as much, so prefer maps. Pixels of no segment are void.

    Args:
        labels: Class of each segment, 0 to `num_labels - 1`.
        id_map: Number of the segment that each pixel belongs to, any integer type: (h, w), or (l, h, w) with `layers`.
            Numbers that are not in `segment_ids` are void.
        segment_ids: Number in `id_map` of each segment, all different.
        masks: One mask a segment: bool, integer (not 0 is inside) or floating-point (above 0.5 is inside).
        is_crowd: Segments that stand for a group of objects which nobody told apart. They are not learned, and
            predictions inside them do not count. None means that there is none.
        layers: Which of the l maps each segment is in, from 0; its number must be in no other one.

    Raises:
        ValueError: When neither or both forms are given, or when the sizes disagree.
    """

    labels: Int[Tensor, " n"]
    id_map: Integer[Tensor, "*l h w"] | None = None
    segment_ids: Int[Tensor, " n"] | None = None
    masks: Bool[Tensor, "n h w"] | None = None
    is_crowd: Bool[Tensor, " n"] = None  # type: ignore[assignment]  # made in __post_init__
    layers: Int[Tensor, " n"] | None = None

    def __post_init__(self) -> None:
        self._set("labels", torch.as_tensor(self.labels, dtype=torch.int64))
        if (self.id_map is None) == (self.masks is None) or (self.id_map is None) != (self.segment_ids is None):
            raise ValueError("SegmentationTarget takes either `masks`, or `id_map` together with `segment_ids`.")
        if self.layers is not None and self.id_map is None:
            raise ValueError("layers belongs to an id_map of several layers: leave it out beside masks.")
        if self.masks is not None:
            self._set("masks", _as_bool(torch.as_tensor(self.masks)))
        else:
            segment_ids = torch.as_tensor(self.segment_ids, dtype=torch.int64)
            self._set("segment_ids", segment_ids)
            self._set("id_map", _as_ids(torch.as_tensor(self.id_map), segment_ids))
        if self.layers is not None:
            self._set("layers", torch.as_tensor(self.layers, dtype=torch.int64))
        crowd = torch.zeros_like(self.labels) if self.is_crowd is None else self.is_crowd
        self._set("is_crowd", torch.as_tensor(crowd, device=self.labels.device).to(torch.bool))
        self._check()

    def _set(self, name: str, value: Tensor) -> None:
        object.__setattr__(self, name, value)

    def _check(self) -> None:
        num_segments = (len(self.labels),)
        if self.labels.shape != num_segments or self.is_crowd.shape != num_segments:
            raise ValueError(
                f"labels and is_crowd must have one value per segment, got {tuple(self.labels.shape)} and "
                f"{tuple(self.is_crowd.shape)}."
            )
        if self.masks is not None and (self.masks.ndim != 3 or len(self.masks) != len(self)):
            raise ValueError(
                f"masks must be (n, height, width) with n = {len(self)} as in labels, "
                f"got shape {tuple(self.masks.shape)}."
            )
        if self.id_map is not None and self.segment_ids is not None:
            self._check_layers(self.id_map)
            if self.segment_ids.shape != num_segments or len(self.segment_ids.unique()) != len(self):
                raise ValueError(
                    f"segment_ids must be {len(self)} different numbers, one for each label, "
                    f"got {self.segment_ids.tolist()}."
                )

    def _check_layers(self, id_map: Tensor) -> None:
        if id_map.ndim != (2 if self.layers is None else 3):
            raise ValueError(
                "id_map must be (height, width), or (layers, height, width) together with `layers`, got shape "
                f"{tuple(id_map.shape)} and {'no' if self.layers is None else 'some'} layers."
            )
        if self.layers is None:
            return
        is_known = (self.layers >= 0) & (self.layers < len(id_map))
        if self.layers.shape != (len(self.labels),) or not is_known.all():
            raise ValueError(
                f"layers must be {len(self)} numbers, one for each label, from 0 to {len(id_map) - 1} as id_map has "
                f"{len(id_map)} layers, got {self.layers.tolist()}."
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        grid = self.id_map if self.id_map is not None else self.masks
        assert grid is not None
        return grid.shape[-2], grid.shape[-1]

    def has_overlaps(self) -> bool:
        """Tell whether a pixel belongs to several segments."""
        once = twice = torch.zeros(self.size, dtype=torch.bool, device=self.labels.device)
        for covered in self._layers():
            twice, once = twice | (once & covered), once | covered
        return bool(twice.any())

    def _layers(self) -> Iterator[Bool[Tensor, "h w"]]:
        """Give the pixels that segments cover: the map of each layer, in which none overlap, or one mask at a time."""
        if self.masks is not None:
            yield from self.masks
        elif self.layers is not None and self.id_map is not None and self.segment_ids is not None:
            for layer, id_map in enumerate(self.id_map):
                yield torch.isin(id_map, self.segment_ids[self.layers == layer].to(id_map.dtype))

    def mask(self, index: int) -> Bool[Tensor, "h w"]:
        """Return the mask of one segment."""
        if self.masks is not None:
            return self.masks[index]
        assert self.id_map is not None
        assert self.segment_ids is not None
        id_map = self.id_map if self.layers is None else self.id_map[self.layers[index]]
        return id_map == self.segment_ids[index].to(id_map.dtype)

    def binary_masks(self) -> Bool[Tensor, "n h w"]:
        """Return one mask per segment: n times the memory of an id map, so keep the result short-lived."""
        if self.masks is not None:
            return self.masks
        masks = torch.empty(len(self), *self.size, dtype=torch.bool, device=self.labels.device)
        for index in range(len(self)):
            masks[index] = self.mask(index)
        return masks

    def select(self, keep: Bool[Tensor, " n"]) -> "SegmentationTarget":
        """Return the segments where `keep` is True; the pixels of the others become void."""
        return self._map(lambda name, value: value if name == "id_map" else value[keep])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "SegmentationTarget":
        """Return a copy on another device."""
        return self._map(lambda _, value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "SegmentationTarget":
        """Return a copy in memory that an accelerator fetches by itself; loaders call it with `pin_memory=True`."""
        return self._map(lambda _, value: value.pin_memory())

    def _map(self, change: Callable[[str, Tensor], Tensor]) -> "SegmentationTarget":
        """Return a copy with every tensor changed; it is not checked again, which would stop an accelerator's queue."""
        changed = copy(self)
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None:
                changed._set(item.name, change(item.name, value))
        return changed


def _as_bool(masks: Tensor) -> Tensor:
    if masks.dtype == torch.bool:  # which a comparison with a number would first copy to int64
        return masks
    return masks > 0.5 if masks.is_floating_point() else masks != 0


def _as_ids(id_map: Tensor, segment_ids: Tensor) -> Tensor:
    """Return a map of a type that holds the ids and a number that is void; small types stay where 0 is void."""
    if id_map.dtype in (torch.uint8, torch.int16):
        largest = torch.iinfo(id_map.dtype).max
        if bool(((segment_ids >= 1) & (segment_ids <= largest)).all()):
            return id_map
    return id_map.to(torch.int32)


@dataclass(frozen=True, eq=False)
class NamedImage:
    """One image and what it is called.

    Args:
        image: Red, green and blue, 0 to 255, upright (EXIF rotation applied).
        image_id: The data set's own number or name of the image.
        file_name: Where the image was read from, for messages.
    """

    image: UInt8[np.ndarray, "h w 3"]
    image_id: int | str
    file_name: str

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample(NamedImage):
    """One annotated image, as a reader gives it.

    Args:
        target: Its segments, on the same grid as the image.
    """

    target: SegmentationTarget
