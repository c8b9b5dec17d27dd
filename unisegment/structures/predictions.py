# SPDX-License-Identifier: Apache-2.0
"""What comes out: the three kinds of prediction. Axes: see `unisegment.types`."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypeAlias

import torch
from jaxtyping import Bool, Float, Int, Int32
from torch import Tensor

from unisegment.structures.targets import SegmentationTarget

TASKS = ("panoptic", "instance", "semantic")
"""The three kinds of prediction, by name."""
NO_LABEL = -1
"""Void in a semantic prediction, where 0 is a label."""


class _Segments:
    """What the predictions have in common: segments to choose from and to count."""

    segmentation: Int[Tensor, "h w"]
    segments_info: list[dict[str, Any]]

    def filter(self, score: float = 0.0, labels: Collection[str | int] | str | int | None = None) -> Self:
        """Return a prediction of the same kind with some of the segments; the pixels of the others become void.

        Segments keep their ids and their order. Void is 0; in a semantic prediction, where 0 is a label, it is -1.
        Objects that overlap show what a removed one covered.

        Args:
            score: Smallest score, in [0, 1], of the segments to keep.
            labels: Names or indices of the labels to keep, or one of them; None keeps all. A prediction knows only the
                labels that occur in it, so a name that does not occur, misspelt or not found, gives no segments.

        Raises:
            ValueError: When `score` is not in [0, 1], or `labels` are names and the segments have none.
        """
        if not 0 <= score <= 1:
            raise ValueError(f"score must be from 0 to 1, as scores are, got {score}.")
        places = [place for place, info in enumerate(self.segments_info) if info["score"] >= score]
        if labels is not None:
            wanted = [labels] if isinstance(labels, str | int) else list(labels)
            places = [place for place in places if self._is_one_of(self.segments_info[place], wanted)]
        return self._only(places)

    def count(self) -> dict[str | int, int]:
        """Return how many segments each label has that occurs, the most frequent first.

        The key is the label's name, or its index where segments have no names. All stuff of a label is one segment.
        """
        return dict(Counter(info.get("label", info["label_id"]) for info in self.segments_info).most_common())

    def as_target(self) -> SegmentationTarget:
        """Return the segments as a target, on the CPU: to measure, to draw, or to learn from as pseudo-labels.

        Raises:
            ValueError: When two segments have the same id, or there is not one mask for each.
        """
        labels = torch.tensor([info["label_id"] for info in self.segments_info], dtype=torch.int64)
        return SegmentationTarget(labels=labels, **self._shapes())

    def _shapes(self) -> dict[str, Any]:
        """Return where the segments are, as `SegmentationTarget` takes it."""
        segment_ids = torch.tensor([info["id"] for info in self.segments_info], dtype=torch.int64)
        return {"id_map": self.segmentation.cpu(), "segment_ids": segment_ids}

    def _is_one_of(self, info: dict[str, Any], labels: list[str | int]) -> bool:
        name = next((label for label in labels if isinstance(label, str)), None)
        if name is not None and "label" not in info:
            raise ValueError(
                f"labels has the name {name!r}, but these segments have no names: give label indices, or take the "
                "predictions of an image processor, which names them."
            )
        return info["label_id"] in labels or info.get("label") in labels

    def _only(self, places: list[int]) -> Self:
        """Return the same with the segments at some places of `segments_info`."""
        raise NotImplementedError


class _Record(Mapping[str, Any]):
    """Fields of a dataclass read as attributes or as items, as users of transformers do."""

    def __getitem__(self, key: str) -> Any:
        if key not in self._names():
            raise KeyError(f"{key!r} is not one of {', '.join(self._names())}")
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> list[str]:
        return [item.name for item in fields(self)]  # type: ignore[arg-type]  # every subclass is a dataclass


@dataclass(frozen=True, eq=False)
class PanopticPrediction(_Segments, _Record):
    """Every pixel belongs to one segment or to none.

    Args:
        segmentation: Number of the segment that each pixel belongs to; 0 is void.
        segments_info: One dict a segment: `id` (its number in `segmentation`, from 1), `label_id`, `score` in [0, 1],
            `was_fused` (whether all segments of its label are made one), and of processors also `label`, the name.
    """

    segmentation: Int[Tensor, "h w"]
    segments_info: list[dict[str, Any]] = field(default_factory=list)

    def _only(self, places: list[int]) -> "PanopticPrediction":
        infos = _chosen(self.segments_info, places)
        return PanopticPrediction(_without_others(self.segmentation, infos, void=0), infos)


@dataclass(frozen=True, eq=False)
class InstancePrediction(_Segments, _Record):
    """Objects, best score first; their masks may overlap.

    Args:
        segmentation: The same objects painted into one map, the best on top; ids as in `segments_info`, 0 is void.
        segments_info: One dict an object: `id` (from 1, rising from object to object), `label_id`, `score` in [0, 1],
            `was_fused` (never), and of processors also `label`, the name.
        masks: One mask an object, in the order of `segments_info`.
    """

    segmentation: Int[Tensor, "h w"]
    segments_info: list[dict[str, Any]]
    masks: Bool[Tensor, "n h w"]

    def _only(self, places: list[int]) -> "InstancePrediction":
        infos, masks = _chosen(self.segments_info, places), self.masks[places]
        return InstancePrediction(paint(masks, [info["id"] for info in infos]), infos, masks)

    def _shapes(self) -> dict[str, Any]:
        return {"masks": self.masks.cpu()}


def paint(masks: Bool[Tensor, "n h w"], ids: Sequence[int]) -> Int32[Tensor, "h w"]:
    """Return a map of masks that may overlap, each painted with its id, the first one on top; 0 is void."""
    segmentation = torch.zeros(masks.shape[1:], dtype=torch.int32, device=masks.device)
    for index in reversed(range(len(masks))):
        segmentation.masked_fill_(masks[index], ids[index])
    return segmentation


class SemanticPrediction(_Segments, Tensor):
    """The label of every pixel: a (h, w) tensor of integers that also has the fields of the other predictions.

    It is a tensor because transformers' pipeline and its users take the semantic result for one; whatever is
    computed from it is a plain tensor. `in` looks for a text among the fields, for a number among the pixels.

    Args:
        segmentation: Label of each pixel; -1 is void, which only `filter` makes.
        segments_info: One dict for each label that occurs, as in the other predictions: `id` and `label_id` are both
            the label, `score` is its mean over the pixels of the label, and `was_fused` is True.
        segmentation_scores: Score of each class at each pixel, where asked for.
    """

    segments_info: list[dict[str, Any]]
    segmentation_scores: Float[Tensor, "k h w"] | None

    _FIELDS = ("segmentation", "segments_info", "segmentation_scores")

    # Results of operations are plain tensors: they are no longer a prediction.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __new__(
        cls: type["SemanticPrediction"],
        segmentation: Int[Tensor, "h w"],
        segments_info: list[dict[str, Any]],
        segmentation_scores: Float[Tensor, "k h w"] | None = None,
    ) -> "SemanticPrediction":
        """See the class."""
        prediction = segmentation.as_subclass(cls)
        prediction.segments_info = segments_info
        prediction.segmentation_scores = segmentation_scores
        return prediction

    @property
    def segmentation(self) -> Int[Tensor, "h w"]:  # type: ignore[override]  # a field of the others
        """The labels as a plain tensor."""
        return self.as_subclass(Tensor)

    def _only(self, places: list[int]) -> "SemanticPrediction":
        infos, labels = _chosen(self.segments_info, places), self.segmentation
        if not labels.dtype.is_signed:  # which void does not fit into
            labels = labels.to(torch.int64)
        return SemanticPrediction(_without_others(labels, infos, void=NO_LABEL), infos, self.segmentation_scores)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SemanticPrediction":
        return SemanticPrediction(
            self.segmentation.clone(), deepcopy(self.segments_info, memo), deepcopy(self.segmentation_scores, memo)
        )

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if key not in self._FIELDS:
                raise KeyError(f"{key!r} is not one of {', '.join(self._FIELDS)}")
            return getattr(self, key)
        return self.as_subclass(Tensor)[key]

    def __contains__(self, key: Any) -> bool:
        return key in self._FIELDS if isinstance(key, str) else key in self.as_subclass(Tensor)


def _chosen(infos: list[dict[str, Any]], places: list[int]) -> list[dict[str, Any]]:
    return [dict(infos[place]) for place in places]


def _without_others(id_map: Int[Tensor, "h w"], infos: list[dict[str, Any]], void: int) -> Int[Tensor, "h w"]:
    ids = torch.tensor([info["id"] for info in infos], dtype=id_map.dtype, device=id_map.device)
    return torch.where(torch.isin(id_map, ids), id_map, void)


Prediction: TypeAlias = SemanticPrediction | InstancePrediction | PanopticPrediction
"""What post-processing makes of one image."""
