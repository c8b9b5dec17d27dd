# SPDX-License-Identifier: Apache-2.0
"""Images in any form that users have them in, uint8 colours out."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Int32, Shaped, UInt8
from PIL import Image

from unisegment.ops.orientation import upright

_CHANNELS = (1, 3)
_CHANNELS_WITH_ALPHA = (4,)


def read_image(image: Any, input_data_format: str | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Return red, green and blue, 0 to 255, whatever form the image has.

    Pillow images are turned upright as their EXIF data say and take the way of `convert("RGB")`, which drops
    transparency. Arrays and tensors have one (grey), three or four channels, of which the fourth is dropped. Their
    numbers are taken

    * as they are: uint8, and other integers from 0 to 255,
    * for 16 bits a channel, 0 to 65535: uint16, and Pillow's modes `I;16` and `I`,
    * for shares of 255: floats, when all of them are in [0, 1],
    * as they are, rounded: other floats from 0 to 255.

    Args:
        image: A Pillow image, a numpy array, a torch tensor or the path of a file.
        input_data_format: "channels_first" or "channels_last" for arrays and tensors; None means to see it by which
            end of the shape is a possible number of channels. Where both are, the first one is taken.

    Raises:
        ValueError: When it is empty, cannot be read, or has other channels or numbers.
    """
    if isinstance(image, str | Path):
        stored = open_image(Path(image))
        try:
            return read_image(stored)
        except Exception as error:  # of ours, or of broken EXIF data
            raise ValueError(f"{image} cannot be read as an image: {error}") from error
    if not isinstance(image, Image.Image):
        return _to_rgb(_to_uint8(_channels_last(to_numpy(image), input_data_format)))
    _check_not_empty(image.size)
    image = upright(image)
    if image.mode == "I":
        return _to_rgb(_to_uint8(_to_uint16(np.asarray(image))[..., None]))
    if image.mode == "F" or image.mode.startswith("I;16"):
        return _to_rgb(_to_uint8(np.asarray(image)[..., None]))
    if image.mode == "P":  # with transparency, Pillow warns unless it goes through RGBA
        image = image.convert("RGBA")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def has_unit_range(image: Any) -> bool:
    """Return whether `read_image` takes the numbers of an image for shares of 255: floats from 0 to 1."""
    # Of Pillow's modes, F alone has floats.
    if isinstance(image, str | Path) or (isinstance(image, Image.Image) and image.mode != "F"):
        return False
    return _has_unit_range(to_numpy(image))


def open_image(file: Path | BinaryIO, name: str = "") -> Image.Image:
    """Return the image in a file as it is stored, loaded whole.

    Args:
        file: The file, or its content.
        name: What messages call it; by default, its path.

    Raises:
        ValueError: When it cannot be read.
    """
    try:
        with Image.open(file) as image:
            image.load()
            return image
    except Exception as error:
        # Pillow raises OSError for most, SyntaxError for broken PNG files, DecompressionBombError for gigantic ones,
        # and struct.error, IndexError and others where its plugins stumble over bytes that they do not expect.
        raise ValueError(f"{name or file} cannot be read as an image: {error}") from error


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


def _channels_last(array: Shaped[np.ndarray, "..."], data_format: str | None) -> Shaped[np.ndarray, "h w c"]:
    _check_not_empty(array.shape)
    if array.ndim == 2:
        return array[..., None]
    if array.ndim == 3 and data_format is None:
        data_format = _infer_format(array.shape)
    if array.ndim == 3 and data_format == "channels_first":
        array = array.transpose(1, 2, 0)
    elif data_format not in ("channels_first", "channels_last"):
        data_format = None
    if array.ndim != 3 or data_format is None or array.shape[2] not in _CHANNELS + _CHANNELS_WITH_ALPHA:
        raise ValueError(
            "An image must be (height, width), or have 1, 3 or 4 channels first or last (`input_data_format` "
            f"'channels_first' or 'channels_last'), got shape {array.shape}."
        )
    return array


def _infer_format(shape: tuple[int, ...]) -> str | None:
    for allowed in (_CHANNELS, _CHANNELS_WITH_ALPHA):
        if shape[0] in allowed:
            return "channels_first"
        if shape[-1] in allowed:
            return "channels_last"
    return None


def _to_uint8(array: Shaped[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w c"]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        # 65535 is 257 times 255; half a step is added to round.
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind == "f" and _has_unit_range(array):
        return np.rint(array * 255).astype(np.uint8)
    # Not a number compares as False.
    if array.dtype.kind == "b" or not (array.min() >= 0 and array.max() <= 255):
        raise ValueError(
            "The numbers of an image must be integers from 0 to 255, uint16 from 0 to 65535, or floats from 0 to 1 or "
            f"from 0 to 255, got {_range(array)}."
        )
    return np.rint(array).astype(np.uint8)


def _to_uint16(array: Int32[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h w"]:
    if array.min() < 0 or array.max() > 65535:
        raise ValueError(f"Images of Pillow's mode 'I' must hold 0 to 65535, got {_range(array)}.")
    return array.astype(np.uint16)


def _to_rgb(array: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    return array.repeat(3, axis=2) if array.shape[2] == 1 else array[..., :3]


def _has_unit_range(array: Shaped[np.ndarray, "..."]) -> bool:
    return array.dtype.kind == "f" and array.size > 0 and bool(array.min() >= 0 and array.max() <= 1)


def _check_not_empty(shape: tuple[int, ...]) -> None:
    if 0 in shape:
        raise ValueError(f"The image is empty: its shape is {tuple(shape)}.")


def _range(array: Shaped[np.ndarray, "..."]) -> str:
    return f"{array.dtype} from {array.min()} to {array.max()}"
