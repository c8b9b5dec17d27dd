# SPDX-License-Identifier: Apache-2.0
"""Mask logits of the network in, mask logits of the original image out, a bounded piece at a time.

The network sees an image on a canvas, padded at the bottom and at the right, and gives masks on a coarser grid.
Logits are resized to the canvas, cropped to the image and resized to the wanted size, bilinearly both times; sigmoid
and threshold come after. Axes: b image, q query, k class (the last logit is "no object"), h w mask grid or,
where said, the wanted size.

Source:
    Mask2Former (arXiv:2112.01527), maskformer_model.py and detectron2's sem_seg_postprocess: the order of these steps.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn import functional as F

from unisegment.ops.piece_size import PieceSize
from unisegment.ops.transfers import send
from unisegment.types import Size

MAX_ELEMENTS = PieceSize(cpu=2**22, accelerator=2**27)
"""Logits that one piece may hold: 16 megabytes of float32 on a CPU, half a gigabyte on a GPU."""


class Frame(NamedTuple):
    """Where an image lies on the canvas and how large its result is to be.

    Args:
        image_size: Height and width of the image on the canvas, whose top left corner it takes.
        target_size: Height and width of the result.
        mask_stride: Pixels of the canvas for one cell of the mask grid, in both directions.
    """

    image_size: Size
    target_size: Size
    mask_stride: int


def frames_of_batch(
    class_queries_logits: Float[Tensor, "b q k"],
    masks_queries_logits: Float[Tensor, "b q h w"],
    image_sizes: Int[Tensor, "b 2"] | Sequence[Size] | None,
    target_sizes: Int[Tensor, "b 2"] | Sequence[Size] | None,
    mask_stride: int,
) -> list[Frame]:
    """Return the frame of each image, after checks.

    Args:
        class_queries_logits: Only its shape counts.
        masks_queries_logits: Only its shape counts.
        image_sizes: Height and width of each image without padding, in pixels of the canvas; None means that the
            images fill the canvas.
        target_sizes: Height and width of each result; None means the size of the image without padding.
        mask_stride: Pixels of the canvas for one cell of the mask grid.

    Raises:
        ValueError: When shapes, counts or sizes do not fit together.
    """
    check_logits(class_queries_logits, masks_queries_logits)
    batch_size, _, grid_height, grid_width = masks_queries_logits.shape
    canvas = grid_height * mask_stride, grid_width * mask_stride
    images = [canvas] * batch_size if image_sizes is None else size_list("image_sizes", image_sizes, batch_size)
    for height, width in images:
        if height > canvas[0] or width > canvas[1]:
            raise ValueError(
                f"image_sizes has {height}x{width} (height x width), but the masks cover a canvas of only "
                f"{canvas[0]}x{canvas[1]}, {mask_stride} times the mask grid. Give the sizes after resizing, without "
                "padding."
            )
    targets = images if target_sizes is None else size_list("target_sizes", target_sizes, batch_size)
    return [Frame(image, target, mask_stride) for image, target in zip(images, targets, strict=True)]


def check_logits(class_logits: Tensor, mask_logits: Tensor) -> None:
    """Raise a ValueError when the shapes of class and mask logits do not fit together."""
    if class_logits.ndim != 3 or mask_logits.ndim != 4 or class_logits.shape[:2] != mask_logits.shape[:2]:
        raise ValueError(
            "Expected class_queries_logits (batch, queries, classes + 1) and masks_queries_logits (batch, queries, "
            f"height, width) of the same batch and queries, got {tuple(class_logits.shape)} and "
            f"{tuple(mask_logits.shape)}."
        )
    if class_logits.shape[-1] < 2 or 0 in mask_logits.shape[1:]:
        raise ValueError(
            "There must be a query, a class beside 'no object' and a pixel, got class_queries_logits "
            f"{tuple(class_logits.shape)} and masks_queries_logits {tuple(mask_logits.shape)}."
        )


def size_list(name: str, sizes: Tensor | Sequence[Size], batch_size: int) -> list[Size]:
    """Return sizes as pairs; raise a ValueError unless there is one (height, width) for each image of a batch."""
    if len(sizes) != batch_size:
        raise ValueError(f"{name} must have one (height, width) for each of the {batch_size} images, got {len(sizes)}.")
    rows = sizes.tolist() if isinstance(sizes, Tensor) else sizes
    pairs = [tuple(int(length) for length in row) for row in rows]
    if any(len(pair) != 2 or min(pair) < 1 for pair in pairs):
        raise ValueError(f"{name} must be (height, width) of at least one pixel each, got {pairs}.")
    return [(height, width) for height, width in pairs]


def check_share(name: str, value: float) -> None:
    """Raise a ValueError unless the value lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value}.")


def check_threshold(value: float) -> None:
    """Raise a ValueError unless a score can be compared with it: a threshold of 1 or more lets nothing through."""
    if not value >= 0:
        raise ValueError(f"threshold must be at least 0, got {value}.")


def logit(probability: float) -> float:
    """Return the logit of a probability; 0 and 1 give minus and plus infinity."""
    return torch.tensor(probability, dtype=torch.float64, device="cpu").logit().item()


def resize_queries(
    mask_logits: Float[Tensor, "q h w"], frame: Frame, max_elements: int | None = None
) -> Iterator[tuple[slice, Float32[Tensor, "_ h_target w_target"]]]:
    """Resize the masks of some queries after the other.

    Args:
        mask_logits: Logits on the mask grid, of any precision.
        frame: Place of the image and size of the result.
        max_elements: Numbers to hold at a time; a single query may exceed it. None takes what suits the device.

    Yields:
        Which queries, and their logits at the target size in memory of their own.
    """
    canvas = mask_logits.shape[-2] * frame.mask_stride, mask_logits.shape[-1] * frame.mask_stride
    height, width = frame.image_size
    elements = MAX_ELEMENTS.on(mask_logits.device, max_elements)
    step = max(elements // (canvas[0] * canvas[1] + frame.target_size[0] * frame.target_size[1]), 1)
    for first in range(0, len(mask_logits), step):
        chunk = slice(first, min(first + step, len(mask_logits)))
        image_logits = interpolate(mask_logits[chunk].float(), canvas)[:, :height, :width]
        yield chunk, interpolate(image_logits, frame.target_size)


def resize_rows(mask_logits: Float[Tensor, "q h w"], frame: Frame, rows: slice) -> Float32[Tensor, "q _ w_target"]:
    """Resize some rows of all queries, for results that mix all queries in a pixel.

    The numbers are those of `resize_queries` up to rounding. Both resizes are done in height before any in width, so
    that rows of the canvas that fall between those of the result are never made.

    Args:
        mask_logits: Logits on the mask grid, of any precision.
        frame: Place of the image and size of the result.
        rows: Which rows of the result.

    Returns:
        Their logits, in memory of their own.
    """
    (image_height, image_width), (height, width), stride = frame
    _, grid_height, grid_width = mask_logits.shape
    canvas_rows = rows_between(grid_height, grid_height * stride, mask_logits.device)
    target_rows = rows_between(image_height, height, mask_logits.device)
    upper, lower, weight = target_rows.of(rows)
    above, below = (blend_rows(mask_logits, canvas_rows.of(part)) for part in (upper, lower))
    narrow = torch.lerp(above, below, weight[:, None])
    wide = interpolate(narrow, (narrow.shape[1], grid_width * stride))[..., :image_width]
    return interpolate(wide, (wide.shape[1], width))


def interpolate(logits: Float32[Tensor, "q _ _"], size: Size) -> Float32[Tensor, "q _ _"]:
    """Resize bilinearly."""
    # With `align_corners=False` pixels are areas, so that the mask grid lies over the canvas without a shift.
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]


class RowsBetween(NamedTuple):
    """Between which two old rows each new row lies, and the weight of the lower one."""

    upper: Int[Tensor, " h"]
    lower: Int[Tensor, " h"]
    weight: Float32[Tensor, " h"]

    def of(self, rows: slice | Int[Tensor, " _"]) -> "RowsBetween":
        """Return it of some of the new rows."""
        return RowsBetween(*(part[rows] for part in self))


def rows_between(old_height: int, new_height: int, device: torch.device) -> RowsBetween:
    """Return between which rows each row lies when `interpolate` changes the height."""
    # torch's interpolation has its scale in float32 and rounds once after multiplying and subtracting.
    scale = torch.tensor(old_height / new_height, dtype=torch.float32, device="cpu").double()
    centers = torch.arange(new_height, dtype=torch.float64, device="cpu") + 0.5
    position = (scale * centers - 0.5).float().clamp_(min=0)
    upper = position.long().clamp_(max=old_height - 1)
    lower = (upper + 1).clamp_(max=old_height - 1)
    return RowsBetween(*(send(part, device) for part in (upper, lower, position - upper)))


def blend_rows(grid: Float[Tensor, "q h w"], rows: RowsBetween) -> Float32[Tensor, "q _ w"]:
    """Return new rows of a grid."""
    return torch.lerp(grid[:, rows.upper].float(), grid[:, rows.lower].float(), rows.weight[:, None])
