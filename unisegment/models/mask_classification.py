# SPDX-License-Identifier: Apache-2.0
"""What models share that answer with queries: targets read, masks made, matched and scored, sizes of images.

Axes: see `unisegment.types`; t is a prediction.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unisegment.losses.criterion import SetCriterion, loss_denominators
from unisegment.losses.matcher import HungarianMatcher, Matches
from unisegment.ops.fused_products import dot_products
from unisegment.ops.segment_maps import SegmentMaps
from unisegment.ops.transfers import fetch, send
from unisegment.structures import SegmentationTarget
from unisegment.types import Size


class MaskClassification:
    """The part of a model that has to do with queries, and with the loss of their masks and classes."""

    config: Any
    criterion: SetCriterion
    _reads_values = True
    """Whether the values of targets are looked at before they are used."""

    @torch.compiler.disable
    def read_targets(
        self,
        mask_labels: Sequence[Tensor | SegmentationTarget] | None,
        class_labels: Sequence[Tensor] | None,
        pixel_values: Float[Tensor, "b 3 h w"],
    ) -> list[SegmentationTarget]:
        """Bring targets into one form, without crowds, and check them.

        Args:
            mask_labels: For each image either masks (n h w) on the padded grid, or a `SegmentationTarget`.
            class_labels: Labels of the masks; not needed beside `SegmentationTarget`.
            pixel_values: The padded images.

        Raises:
            ValueError: When they do not fit the images or the classes.
        """
        check_pixel_values(pixel_values)
        if mask_labels is None:
            raise ValueError("mask_labels is needed beside class_labels.")
        size = (pixel_values.shape[2], pixel_values.shape[3])
        targets = _read_targets(mask_labels, class_labels, len(pixel_values), size)
        return _checked(targets, self.config.num_labels) if self._reads_values else targets

    @torch.compiler.disable
    def score(
        self,
        class_logits: Float[Tensor, "t b q k"],
        mask_embeddings: Float[Tensor, "t b q c"],
        mask_features: Float[Tensor, "b c h w"] | Sequence[Float[Tensor, "b c h w"]],
        targets: Sequence[SegmentationTarget],
        denominators: Float[Tensor, "2"] | None,
    ) -> dict[str, Any]:
        """Return `loss` and `loss_dict`; see `SetCriterion`."""
        loss, terms = self.criterion(class_logits, mask_embeddings, mask_features, targets, denominators)
        return {"loss": loss, "loss_dict": terms}

    def loss_denominators(
        self, targets: Sequence[Sequence[Any]], add: Callable[[Tensor], Tensor], num_processes: int
    ) -> list[Float[Tensor, "2"]]:
        """Return what each micro-batch divides its losses by: masks, and class weights of the queries.

        With `loss_normalization` "global" these are those of the whole batch. With "rank" the class term is the mean of
        the terms of the micro-batches, each divided by its own sum.

        Args:
            targets: For each micro-batch of this process, something of the length of its targets for each image.
            add: Adds a tensor up over all processes, and knows its device.
            num_processes: How many these are.
        """
        config = self.config
        own = torch.stack(
            [
                loss_denominators([len(target) for target in batch], config.num_queries, config.no_object_weight)
                for batch in targets
            ]
        )
        own = send(own, next(cast(nn.Module, self).parameters()).device)
        if config.loss_normalization == "rank":
            num_masks = (add(own[:, 0].sum()) / num_processes).clamp(min=1)
            return [torch.stack([num_masks, class_weights]) for class_weights in own[:, 1] * len(targets)]
        total = add(own.sum(0))
        total[0].clamp_(min=1)  # here, because with few masks there is less than one for each process
        return [total / num_processes] * len(targets)

    @contextmanager
    def loss_without_values(self) -> Iterator[None]:
        """Let the loss be computed from tensors without contents, for their memory alone.

        No value of a target is looked at, any matches do, and no numbers are drawn.
        """
        criterion = self.criterion
        matcher, criterion.matcher = criterion.matcher, cast(HungarianMatcher, _AnyMatches())
        criterion.draw_seed = lambda: None  # type: ignore[method-assign]
        self._reads_values = False
        try:
            yield
        finally:
            criterion.matcher, self._reads_values = matcher, True
            del criterion.draw_seed


class _AnyMatches(nn.Module):
    """Matches without looking: without contents there are no costs."""

    def forward(
        self,
        class_logits: Float[Tensor, "t b q k"],
        mask_embeddings: Tensor,
        mask_features: Tensor | Sequence[Tensor],
        segments: SegmentMaps,
        max_elements: int | None = None,
    ) -> Matches:
        num_predictions, _, num_queries, _ = class_logits.shape
        counts = [min(num_queries, count) for count in segments.counts]
        places = torch.zeros(num_predictions * sum(counts), dtype=torch.int64, device=class_logits.device)
        return Matches(places, places, counts)


def check_pixel_values(pixel_values: Tensor) -> None:
    """Raise a ValueError unless these are images, (b 3 h w) of at least one pixel."""
    if pixel_values.ndim != 4 or 0 in pixel_values.shape:
        raise ValueError(f"pixel_values must be (batch, 3, height, width), got {tuple(pixel_values.shape)}.")


def make_criterion(config: Any) -> SetCriterion:
    """Return the loss that a config describes; it has no weights that learn."""
    weights: dict[str, Any] = {
        "class_weight": config.class_weight,
        "mask_weight": config.mask_weight,
        "dice_weight": config.dice_weight,
    }
    return SetCriterion(
        HungarianMatcher(**weights, num_points=config.train_num_points),
        **weights,
        no_object_weight=config.no_object_weight,
        num_points=config.train_num_points,
        oversample_ratio=config.oversample_ratio,
        importance_sample_ratio=config.importance_sample_ratio,
        normalization=config.loss_normalization,
    )


def class_weights(config: Any) -> Float[Tensor, " k"]:
    """Return the weights of the classes in the loss, "no object" last, which both other codes keep with the model."""
    weights = torch.ones(config.num_labels + 1)
    weights[-1] = config.no_object_weight
    return weights


def mask_logits(
    mask_embeddings: Float[Tensor, "b q c"], mask_features: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b q h w"]:
    """Return the mask of each query, before sigmoid."""
    pixels = mask_features.to(mask_embeddings.dtype).flatten(2).transpose(1, 2)
    logits = dot_products(mask_embeddings, pixels).unflatten(2, mask_features.shape[-2:])
    # float16 ends at 65504, and resizing would make NaN of infinite neighbours.
    if logits.dtype == torch.float16:
        largest = torch.finfo(torch.float16).max
        logits.detach().clamp_(-largest, largest)  # the same memory; autograd would keep what was there
    return logits


def find_image_sizes(
    pixel_values: Float[Tensor, "b 3 h w"], pixel_mask: Int[Tensor, "b h w"] | None
) -> Int[Tensor, "b 2"]:
    """Return (height, width) of each image without its padding."""
    batch_size, _, height, width = pixel_values.shape
    if pixel_mask is None:
        # Filled, not sent: a tensor made of a list would stop an accelerator's queue and fix the size of an export.
        lengths = [torch.full((batch_size,), length, device=pixel_values.device) for length in (height, width)]
        return torch.stack(lengths, dim=1)
    if pixel_mask.shape != (batch_size, height, width):
        raise ValueError(
            f"pixel_mask must be (batch, height, width) as pixel_values {tuple(pixel_values.shape)}, "
            f"got {tuple(pixel_mask.shape)}."
        )
    inside = pixel_mask != 0
    return torch.stack([inside.any(dim=2).sum(1), inside.any(dim=1).sum(1)], dim=1)


def _read_targets(
    mask_labels: Sequence[Tensor | SegmentationTarget],
    class_labels: Sequence[Tensor] | None,
    batch_size: int,
    size: Size,
) -> list[SegmentationTarget]:
    """Bring targets into one form, of which there is one for each image, of its size."""
    if len(mask_labels) != batch_size or (class_labels is not None and len(class_labels) != batch_size):
        raise ValueError(
            f"Targets are needed for each of the {batch_size} images, got {len(mask_labels)} in mask_labels and "
            f"{None if class_labels is None else len(class_labels)} in class_labels."
        )
    targets = []
    for index, masks in enumerate(mask_labels):
        if isinstance(masks, SegmentationTarget):
            target = masks
        elif class_labels is None:
            raise ValueError("class_labels is needed when mask_labels are plain masks.")
        else:
            target = SegmentationTarget(masks=cast(Any, masks), labels=class_labels[index])
        if target.size != size:
            raise ValueError(
                f"mask_labels[{index}] has size {target.size}, but the padded images have {size} (height, width). "
                "Pad masks at bottom and right as the image processor does."
            )
        targets.append(target)
    return targets


def _checked(targets: Sequence[SegmentationTarget], num_labels: int) -> list[SegmentationTarget]:
    """Refuse labels that are none, and leave crowds out.

    All values are looked at together, on the CPU: where they are on an accelerator, its queue is waited for once.
    """
    values = fetch(*(target.labels for target in targets), *(target.is_crowd for target in targets))
    checked = []
    for index, target in enumerate(targets):
        labels, is_crowd = values[index], values[index + len(targets)]
        wrong = [label for label in labels.tolist() if not 0 <= label < num_labels]
        if wrong:
            raise ValueError(
                f"class_labels[{index}] has {wrong[0]}, but labels go from 0 to {num_labels - 1} (num_labels = "
                f'{num_labels} in the config, "no object" not counted).'
            )
        checked.append(target.select(is_crowd == 0) if any(is_crowd.tolist()) else target)
    return checked
