# SPDX-License-Identifier: Apache-2.0
"""Why an image file of a data set cannot be used, as a problem: looked into only when it could not be."""

import os
from functools import lru_cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from unisegment.data.problems import Problem
from unisegment.data.reading.image_reading import exif_hint
from unisegment.ops.orientation import exif_orientation
from unisegment.types import Size

_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_QUARTER_TURNS = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""


def lossy(file: Path, image_format: str | None) -> Problem | None:
    """Return that a file of labels went through JPEG; None if its format, in Pillow's words, is another one."""
    if image_format not in ("JPEG", "MPO"):
        return None
    detail = "it is a JPEG file, which does not keep numbers: make it again from its source, as PNG."
    return Problem("lossy-label-map", str(file), detail)


def absence(file: Path, missing: str) -> Problem | None:
    """Return why there is nothing to read at a path; None if there is.

    Args:
        file: The path.
        missing: Kind of the problem where there is nothing of that name.
    """
    try:
        if file.is_file():
            return None if file.stat().st_size else Problem("empty-file", str(file), "it is empty: 0 bytes.")
        if file.is_dir():
            return Problem("not-a-file", str(file), "it is a folder, where a file should be.")
        if file.exists():
            return Problem("not-a-file", str(file), "it is neither a file nor a folder.")
        if file.is_symlink():
            return Problem(missing, str(file), f"it is a link to {os.readlink(file)}, which does not exist.")
    except OSError as error:  # such as a name that is too long
        return Problem("unreadable-file", str(file), str(error))
    similar = _names_in_lower_case(file.parent).get(file.name.lower())
    hint = f", but there is {similar}" if similar else ", but the annotations name it"
    return Problem(missing, str(file), f"there is no such file{hint}.")


def unreadable(file: Path, error: Exception) -> Problem:
    """Return why a file that is there could not be read as an image.

    Args:
        file: The file.
        error: What `open_image` or `read_image` raised.
    """
    empty = absence(file, "missing-image")
    if empty is not None:
        return empty
    detail = str(error).removeprefix(f"{file} ")
    return Problem(kind_of(error.__cause__ or error, file), str(file), f"it {detail}")


def other_size(file: Path, size: Size, expected: Size, source: Path) -> Problem:
    """Return that an image has another height and width than another file says, or than another image has."""
    detail = (
        f"it is {size[0]}x{size[1]} (height x width), but {source} says {expected[0]}x{expected[1]}: resize "
        f"one of them, or correct the annotation.{exif_hint(size, expected)}"
    )
    is_turned = tuple(size) == tuple(expected[::-1]) and (_has_quarter_turn(file) or _has_quarter_turn(source))
    return Problem("exif-rotated" if is_turned else "wrong-size", str(file), detail)


def kind_of(error: BaseException, file: Path) -> str:
    """Return the kind of the problem that Pillow has with a file."""
    if isinstance(error, Image.DecompressionBombError):
        return "too-large-image"
    if isinstance(error, UnidentifiedImageError):
        return "not-an-image"
    return "truncated-image" if "truncated" in str(error).lower() or _is_cut_off(file) else "broken-image"


def _has_quarter_turn(file: Path) -> bool:
    try:
        with Image.open(file) as image:
            return exif_orientation(image) in _QUARTER_TURNS
    except Exception:  # of any kind: it is no image, or has no EXIF data that can be read
        return False


@lru_cache(maxsize=4)
def _names_in_lower_case(folder: Path) -> dict[str, str]:
    return {name.lower(): name for name in os.listdir(folder)} if folder.is_dir() else {}


def _is_cut_off(file: Path) -> bool:
    content = file.read_bytes()
    kind = {b"\xff\xd8": "JPEG", b"\x89P": "PNG"}.get(content[:2])
    return kind is not None and _LAST_BYTES[kind] not in content[-64:]
