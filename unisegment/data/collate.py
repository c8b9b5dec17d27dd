# SPDX-License-Identifier: Apache-2.0
"""Annotated images of any size in, one training batch out.

The images of a batch are laid at the top left of a common canvas; target pixels beyond an image are void.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64, Shaped, UInt8
from torch import Tensor

from unisegment.structures import Sample, SegmentationTarget
from unisegment.types import Size


def normalize_image(
    image: UInt8[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"],
    mean: Sequence[float],
    std: Sequence[float],
    rescale_factor: float = 1 / 255,
    out: Float[Tensor, "c h w"] | None = None,
) -> Float[Tensor, "c h w"]:
    """Return the image in float32, every channel shifted by its mean and divided by its standard deviation.

    Args:
        image: Red, green and blue, 0 to 255, or other channels.
        mean: Mean of each channel after rescaling, for colours usually in [0, 1].
        std: Standard deviation of each channel after rescaling, above 0.
        rescale_factor: What the image is multiplied by before `mean` and `std` apply.
        out: Tensor that the result is written to; None makes one.
    """
    channels = image.transpose(2, 0, 1)
    pixels = torch.empty(channels.shape, dtype=torch.float32) if out is None else out
    np.copyto(pixels.numpy(), channels)
    # Mean and deviation are brought to the scale of the pixels, as in the original code, which saves a pass.
    mean_of_pixels, std_of_pixels = torch.tensor([mean, std], dtype=torch.float64).div(rescale_factor).float()
    return pixels.sub_(mean_of_pixels[:, None, None]).div_(std_of_pixels[:, None, None])


def padded_size(sizes: Iterable[Size], size_divisor: int) -> Size:
    """Return the smallest canvas that holds all sizes and whose sides are multiples of `size_divisor`."""
    heights, widths = zip(*sizes, strict=True)
    return _round_up(max(heights), size_divisor), _round_up(max(widths), size_divisor)


def _round_up(length: int, divisor: int) -> int:
    return -(-length // divisor) * divisor


def pad_images(
    images: Sequence[Float[Tensor, "c _ _"]], size: Size, padding: Sequence[float] | float = 0.0
) -> tuple[Float[Tensor, "b c h w"], Int64[Tensor, "b h w"]]:
    """Lay every image at the top left of a canvas.

    Args:
        images: Normalised images; each may have its own size.
        size: Height and width of the canvas.
        padding: Number beyond an image, or one for each channel.

    Returns:
        The canvases, and a mask that is 1 where a canvas shows its image and 0 where it is padding.

    Raises:
        ValueError: When an image does not fit.
    """
    sizes: list[Size] = [(image.shape[-2], image.shape[-1]) for image in images]
    for inner in sizes:
        _check_fits(inner, size)
    canvas = images[0].new_empty(len(images), images[0].shape[0], *size)
    for part, image in zip(_parts(canvas, sizes, _in_channels(padding)), images, strict=True):
        part.copy_(image)
    return canvas, _pixel_mask(sizes, size, torch.int64, canvas.device)


def _in_channels(values: Sequence[float] | float) -> Float[Tensor, "c 1 1"]:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)


def _pixel_mask(
    sizes: Sequence[Size], size: Size, dtype: torch.dtype, device: torch.device | None = None
) -> Int[Tensor, "b h w"]:
    pixel_mask = torch.empty(len(sizes), *size, dtype=dtype, device=device)
    for part in _parts(pixel_mask, sizes):
        part.fill_(1)
    return pixel_mask


def _parts(
    canvas: Shaped[Tensor, "b *c h w"], sizes: Sequence[Size], padding: Tensor | int = 0
) -> Iterator[Shaped[Tensor, "*c _ _"]]:
    """Return the part of each canvas that its image takes, after the rest is set to `padding`."""
    # New memory is slow to touch, so nothing is written twice.
    for part, (height, width) in zip(canvas, sizes, strict=True):
        part[..., height:, :] = padding
        part[..., :height, width:] = padding
        yield part[..., :height, :width]


def pad_target(target: SegmentationTarget, size: Size) -> SegmentationTarget:
    """Extend the target with void at the bottom and at the right.

    Raises:
        ValueError: When the target is larger than `size`.
    """
    height, width = target.size
    _check_fits((height, width), size)
    if (height, width) == size:
        return target
    if target.masks is not None:
        return replace(target, masks=_laid_on_canvas(target.masks, size, padding=0))
    assert target.id_map is not None
    assert target.segment_ids is not None
    used_ids = set(target.segment_ids.tolist())
    void_id = next(number for number in range(len(used_ids) + 1) if number not in used_ids)
    return replace(target, id_map=_laid_on_canvas(target.id_map, size, padding=void_id))


def _laid_on_canvas(grid: Shaped[Tensor, "*n _ _"], size: Size, padding: int) -> Shaped[Tensor, "*n h w"]:
    canvas = grid.new_empty(*grid.shape[:-2], *size)
    for part in _parts(canvas[None], [(grid.shape[-2], grid.shape[-1])], padding):
        part.copy_(grid)
    return canvas


def _check_fits(inner: Size, outer: Size, problem: str = "") -> None:
    if inner[0] > outer[0] or inner[1] > outer[1]:
        raise ValueError(
            f"{problem}Cannot pad {inner[0]}x{inner[1]} (height x width) to the smaller {outer[0]}x{outer[1]}."
        )


@dataclass(frozen=True)
class Collate:
    """Make a training batch of samples; crowd segments are left out.

    Args:
        mean: See `normalize_image`.
        std: As there.
        rescale_factor: As there.
        size_divisor: Height and width of the batch become a multiple of it.
        pad_size: Height and width of the batch before that; None means the smallest for its images.
        padding: Pixel value beyond an image, after normalisation, or one for each channel.
    """

    mean: Sequence[float]
    std: Sequence[float]
    rescale_factor: float = 1 / 255
    size_divisor: int = 32
    pad_size: Size | None = None
    padding: Sequence[float] | float = 0.0

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Return what the model's `forward` takes.

        Returns:
            `pixel_values` (b 3 h w), `pixel_mask` (b h w), `mask_labels` (a target of size h w for each image) and
            `class_labels` (the label of each segment of each image).

        Raises:
            ValueError: When a sample is empty or larger than `pad_size`, or its target has another size than its image.
        """
        for sample in samples:
            _check_sample(sample, len(self.mean))
        sizes = [sample.target.size for sample in samples]
        size = padded_size(sizes if self.pad_size is None else [self.pad_size], self.size_divisor)
        for sample in samples:
            _check_fits(sample.target.size, size, f"{sample.file_name}: pad_size is too small. ")
        pixel_values = torch.empty(len(samples), 3, *size, dtype=torch.float32)
        for part, sample in zip(_parts(pixel_values, sizes, _in_channels(self.padding)), samples, strict=True):
            normalize_image(sample.image, self.mean, self.std, self.rescale_factor, out=part)
        targets = [pad_target(_without_crowds(sample.target), size) for sample in samples]
        return {
            "pixel_values": pixel_values,
            # Of 8 bits: with transformers' 64 it would be a third of the batch.
            "pixel_mask": _pixel_mask(sizes, size, torch.int8),
            "mask_labels": targets,
            "class_labels": [target.labels for target in targets],
        }


def _without_crowds(target: SegmentationTarget) -> SegmentationTarget:
    # Selecting copies masks.
    return target.select(~target.is_crowd) if target.is_crowd.any() else target


def _check_sample(sample: Sample, channels: int) -> None:
    height, width, found = sample.image.shape
    if found != channels:
        raise ValueError(
            f"{sample.file_name}: the image has {found} channels, but the image processor has the means of {channels}. "
            "Data sets are read as red, green and blue."
        )
    if height == 0 or width == 0:
        raise ValueError(f"{sample.file_name}: the image is empty ({height}x{width}, height x width).")
    if sample.target.size != (height, width):
        target_height, target_width = sample.target.size
        raise ValueError(
            f"{sample.file_name}: the image is {height}x{width} (height x width), but its target is "
            f"{target_height}x{target_width}. Transform both together."
        )
