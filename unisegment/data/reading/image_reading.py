# SPDX-License-Identifier: Apache-2.0
"""Images in any form that users have them in, colours of 8 bits out."""

import logging
import os
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32, Shaped, UInt8
from PIL import Image

from unisegment.ops.downloads import content_of, is_address, public_address
from unisegment.ops.image_opening import has_more_frames, is_cut, open_image
from unisegment.ops.orientation import upright
from unisegment.ops.value_range import ValueRange, checked_range, has_more_bits, narrow_range, to_uint8
from unisegment.types import Size

Exif: TypeAlias = Literal["upright", "stored"]
"""Whether images are turned as their EXIF data say."""
_MOST_SECONDS, _MOST_BYTES = 300, 2**29
"""What an image at an address may take."""


@dataclass(frozen=True)
class ImageReading:
    """How images are read.

    Args:
        exif: "upright" turns images of Pillow as their EXIF data say; "stored" leaves them as they are stored.
        range: Which numbers become black and white, where they have more than 8 bits; see `to_uint8`.
        channels: How many channels images are to have.
        keeps_floats: Whether floats stay what they are, in float32, instead of becoming numbers of 8 bits.

    Raises:
        ValueError: When a value is none of these.
    """

    exif: Exif = "upright"
    range: ValueRange = "dtype"
    channels: int = 3
    keeps_floats: bool = False

    def __post_init__(self) -> None:
        if self.exif not in ("upright", "stored"):
            raise ValueError(f"exif must be 'upright' or 'stored', got {self.exif!r}.")
        object.__setattr__(self, "range", checked_range(self.range))

    def turned(self, image: Any) -> Any:
        """Return an image of Pillow as it is to be seen, and anything else as it is."""
        return upright(image) if self.exif == "upright" and isinstance(image, Image.Image) else image


def read_image(
    image: Any, input_data_format: str | None = None, reading: ImageReading | None = None, name: str = "An image"
) -> UInt8[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"]:
    """Return the channels, red, green and blue unless `reading` says others, whatever form the image has.

    Pillow images take the way of `convert("RGB")`, which drops transparency. Arrays and tensors have one channel
    (grey), which is repeated, or as many as there are to be. How numbers of other types become 0 to 255, `to_uint8`
    says. Pillow's mode `I` holds 16 bits, or 8 if no number is above 255.

    Args:
        image: A Pillow image, a numpy array, a torch tensor, the path of a file, or a text that `fetched` takes.
        input_data_format: "channels_first" or "channels_last" for arrays and tensors; None means to see it by which
            end of the shape is a possible number of channels. Where both are, the first one is taken.
        reading: See `ImageReading`; None means its defaults.
        name: What messages call an image that is no file.

    Raises:
        ValueError: When it is empty, cannot be read, or has other channels or numbers.
    """
    reading = reading or ImageReading()
    image = fetched(image)
    if isinstance(image, Path):
        stored = open_image(image)
        name = str(image)
        try:
            return read_image(stored, reading=reading, name=name)
        except Exception as error:  # of ours, or of broken EXIF data
            raise ValueError(f"{image} cannot be read as an image: {error}") from error
    if isinstance(image, Image.Image):
        if has_more_frames(image):
            _warn_of_the_first(name, "frames", "it has several pictures, of which the first one is used")
        array = _pillow_channels(image, reading)
    else:
        array = channels_last(to_numpy(image), input_data_format, reading.channels)
    if reading.keeps_floats and array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ValueError("The numbers of an image must be finite.")
        levels: Shaped[np.ndarray, "h w c"] = array.astype(np.float32, copy=False)
    else:
        lost = lost_range(image) if reading.range == "dtype" else None
        if lost is not None:
            _warn_of_the_first(
                name,
                "range",
                f"{lost}. Say what is black and white, range=[low, high] or 'percentile' (data.range in recipes)",
            )
        levels = to_uint8(array, reading.range)
    return levels.repeat(reading.channels, axis=2) if levels.shape[2] == 1 else levels


def fetched(image: Any) -> Any:
    """Return a text as what it names: a path, or the image at an address or in base64; anything else as it is.

    Raises:
        ValueError: When a text is none of these.
    """
    if not isinstance(image, str):
        return image
    if os.path.isfile(image):
        return Path(image)
    if image.startswith(("http://", "https://")):
        content = content_of(image, _MOST_BYTES, _MOST_SECONDS)
        return open_image(BytesIO(content), public_address(image))
    if is_address(image):
        raise ValueError(f"{public_address(image)} is no address of an image: take one with https://, or a file.")
    from transformers.image_utils import load_image  # here, because it takes a second

    try:
        return load_image(image)
    except ValueError as error:  # which would repeat all of a long text
        raise ValueError(f"{image:.80} is no file, no address and no image in base64.") from error


def lost_range(image: Any) -> str | None:
    """Say what of an image is lost with the range "dtype": it has 16 bits and uses less than 5 % of them.

    Args:
        image: As for `read_image`, but no file.

    Returns:
        What it uses, in words; None where nothing to speak of is lost.
    """
    if not isinstance(image, Image.Image):
        array = to_numpy(image)
    elif is_cut(image):
        array = np.asarray(image).astype(np.uint16) * 257
    elif has_more_bits(image):
        array = _pillow_numbers(image, "dtype")
    else:
        return None
    used = None if array.size == 0 else narrow_range(array)
    if used is None:
        return None
    levels = (used[1] + 128) // 257 - (used[0] + 128) // 257 + 1
    return f"it has 16 bits, of which it uses {used[0]} to {used[1]}: {levels} of 256 levels are left"


@cache
def _warned() -> set[str]:
    return set()


def _warn_of_the_first(name: str, kind: str, lost: str) -> None:
    """Log what is lost, once of each kind in a process: a data set has thousands of such files."""
    if kind not in _warned():
        _warned().add(kind)
        logging.getLogger(__name__).warning("%s: %s. This is said of the first such image alone.", name, lost)


def exif_hint(size: Size, expected: Size) -> str:
    """Return a sentence for messages where an image has another size than its annotation, if it may be turned."""
    if tuple(size) != tuple(expected[::-1]):
        return ""
    return " If EXIF data turn the image and its annotation shows it as it is stored, set data.exif=stored."


def to_numpy(image: Any) -> Shaped[np.ndarray, "..."]:
    """Return a Pillow image, a numpy array or a torch tensor as an array of the same shape.

    Raises:
        ValueError: When it is something else, or does not hold numbers.
    """
    if isinstance(image, Image.Image):
        return np.asarray(image)
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        # numpy has no bfloat16.
        return (image.float() if image.is_floating_point() else image).numpy()
    if isinstance(image, np.ndarray) and image.dtype.kind in "biuf":
        return image
    kind = f"an array of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
    raise ValueError(f"Expected a Pillow image, or a numpy array or torch tensor of numbers, got {kind}.")


def as_list(items: Any, ndim: int) -> list[Any]:
    """Return a list of items for one item, a list, or an array with one more axis than an item's `ndim`."""
    if isinstance(items, np.ndarray | torch.Tensor) and items.ndim > ndim:
        return list(items)
    return list(items) if isinstance(items, list | tuple) else [items]


def _pillow_channels(image: Image.Image, reading: ImageReading) -> Shaped[np.ndarray, "h w c"]:
    _check_not_empty(image.size)
    image = reading.turned(image)
    if has_more_bits(image):
        return _pillow_numbers(image, reading.range)[..., None]
    if is_cut(image) and reading.range != "dtype":
        raise ValueError(
            f"range={reading.range} needs all 16 bits, but Pillow reads 8 of them where an image has several channels: "
            "store it with one channel, or with 8 bits."
        )
    if reading.channels != 3:
        if image.mode != "L":
            _check_channels(len(image.getbands()), reading.channels)
        return np.asarray(image).reshape(image.height, image.width, -1)
    if image.mode == "P":  # with transparency, Pillow warns unless it goes through RGBA
        image = image.convert("RGBA")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _pillow_numbers(image: Image.Image, value_range: ValueRange) -> Shaped[np.ndarray, "h w *c"]:
    array = np.asarray(image)
    # Pillow's mode "I" has 32 bits for files of 16, and for numbers of 8 that somebody has computed.
    if image.mode != "I" or value_range != "dtype" or array.max() <= 255:
        return array
    if array.min() < 0 or array.max() > 65535:
        raise ValueError(
            f"Images of Pillow's mode 'I' must hold 0 to 65535, got {array.min()} to {array.max()}: say what is black "
            "and white, range=[low, high] or 'percentile'."
        )
    return array.astype(np.uint16)


def channels_last(
    array: Shaped[np.ndarray, "..."], data_format: str | None, channels: int
) -> Shaped[np.ndarray, "h w c"]:
    """Return an image of one channel or of so many with its axes in this order; see `read_image`."""
    _check_not_empty(array.shape)
    if array.ndim == 2:
        return array[..., None]
    if array.ndim == 3 and data_format is None:
        data_format = _infer_format(array.shape, channels)
    if array.ndim != 3 or data_format not in ("channels_first", "channels_last"):
        raise ValueError(
            f"An image must be (height, width), or have 1 or {channels} channels first or last (`input_data_format` "
            f"'channels_first' or 'channels_last'), got shape {array.shape}."
        )
    if data_format == "channels_first":
        array = array.transpose(1, 2, 0)
    if array.shape[2] != 1:
        _check_channels(array.shape[2], channels)
    return array


def _infer_format(shape: tuple[int, ...], channels: int) -> str | None:
    # One channel more is a likely mistake, which gets an error of its own.
    for allowed in ((1, channels), (3, 4)):
        if shape[0] in allowed:
            return "channels_first"
        if shape[-1] in allowed:
            return "channels_last"
    return None


def _check_channels(found: int, channels: int) -> None:
    if found != channels:
        raise ValueError(
            f"The image has {found} channels, but is to have 1 or {channels}, as many as image_mean and image_std have "
            "numbers: leave out those that are no colours, or give a mean and a deviation for each."
        )


def _check_not_empty(shape: tuple[int, ...]) -> None:
    if 0 in shape:
        raise ValueError(f"The image is empty: its shape is {tuple(shape)}.")
