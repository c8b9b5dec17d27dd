# SPDX-License-Identifier: Apache-2.0
"""Numbers of any type in, the 256 levels of a colour out: which numbers become black and which white."""

from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

ValueRange: TypeAlias = Literal["dtype", "percentile"] | tuple[float, float]
"""What becomes black and white, where numbers have more than 8 bits; see `to_uint8`."""

PERCENTILES = (0.5, 99.5)
"""What "percentile" makes black and white. Source: nnU-Net (Apache-2.0), clipping of CT intensities."""

_FEWEST_USED = 0.05


def checked_range(value_range: Any) -> ValueRange:
    """Return a range with its numbers as a tuple, as they are no longer in files.

    Raises:
        ValueError: When it is none.
    """
    if value_range in ("dtype", "percentile"):
        return value_range
    if isinstance(value_range, list | tuple) and len(value_range) == 2:
        low, high = value_range
        if all(isinstance(end, int | float) for end in (low, high)) and -np.inf < low < high < np.inf:
            return low, high
    raise ValueError(f"range must be 'dtype', 'percentile' or [low, high] with low below high, got {value_range!r}.")


def to_uint8(array: Shaped[np.ndarray, "*n"], value_range: ValueRange = "dtype") -> UInt8[np.ndarray, "*n"]:
    """Return numbers as 0 to 255; those of 8 bits are as they are to be.

    Args:
        array: Numbers of an image.
        value_range: "dtype" takes 65535 as white for uint16 and 1.0 for floats that are all in [0, 1], and leaves other
            integers and floats from 0 to 255 as they are, rounded. (low, high) makes low and all below it black, high
            and all above it white. "percentile" takes for these two the `PERCENTILES` of the image, all channels
            together.

    Raises:
        ValueError: When a number is none, or "dtype" cannot place it.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b" or not np.isfinite(array).all():
        raise ValueError(f"The numbers of an image must be integers or finite floats, got {_described(array)}.")
    if value_range == "dtype":
        return _by_type(array)
    low, high = _percentiles(array) if value_range == "percentile" else value_range
    levels = (array.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(levels.clip(0, 255)).astype(np.uint8)


def has_more_bits(image: Image.Image) -> bool:
    """Return whether an image of Pillow has more than 8 bits, in its one channel."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def narrow_range(array: Shaped[np.ndarray, "*n"]) -> tuple[int, int] | None:
    """Return the smallest and largest number of an image of 16 bits that uses less than 5 % of them, and else None.

    "dtype" leaves few levels of it. An image of one number alone has nothing to lose.
    """
    if not _is_16_bits(array):
        return None
    low, high = int(array.min()), int(array.max())
    return (low, high) if 0 < high - low < _FEWEST_USED * 65535 else None


def _is_16_bits(array: Shaped[np.ndarray, "*n"]) -> bool:
    return array.dtype.kind == "u" and array.dtype.itemsize == 2  # in either order of bytes


def _by_type(array: Shaped[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n"]:
    if _is_16_bits(array):
        # 65535 is 257 times 255; half a step is added to round.
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:
        return np.rint(array * 255).astype(np.uint8)
    if array.min() < 0 or array.max() > 255:
        raise ValueError(
            "The numbers of an image must be integers from 0 to 255, uint16 from 0 to 65535, or floats from 0 to 1 or "
            f"from 0 to 255, got {_described(array)}: say what is black and white, range=[low, high] or 'percentile'."
        )
    return np.rint(array).astype(np.uint8)


def _percentiles(array: Shaped[np.ndarray, "*n"]) -> tuple[float, float]:
    low, high = np.percentile(array, PERCENTILES).tolist()
    if low == high:  # nearly all numbers are one
        low, high = float(array.min()), float(array.max())
    return low, max(high, low + 1e-6 * max(abs(low), 1.0))


def _described(array: Shaped[np.ndarray, "*n"]) -> str:
    return f"{array.dtype} from {array.min()} to {array.max()}"
