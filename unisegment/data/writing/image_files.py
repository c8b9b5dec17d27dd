# SPDX-License-Identifier: Apache-2.0
"""The images of a data set in, their files in another one out: named so that none takes the place of another."""

import os
import shutil
from collections.abc import Iterable, Sequence
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Literal

from PIL import Image

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.export.format import save_png
from unisegment.data.reading.image_reading import ImageReading
from unisegment.data.reading.label_maps import IMAGE_ENDINGS
from unisegment.files import whole_file
from unisegment.ops.orientation import exif_orientation
from unisegment.structures import Sample


def image_file(images: AnnotatedImages, place: int) -> Path | None:
    """Return the file of an image; None where it is no file of its own."""
    files = images.files(place)
    return files and files.image


def stems_of(files: Sequence[Path | None]) -> list[str]:
    """Return what the files of each image are to be named after; all differ, in case-insensitive folders, too.

    That is the name of the image's file without its ending. Where two have the same, all have the folders that tell
    them apart in front of it, joined by `_`; what is still the same gets a number. An image without a file is named
    after its place.

    Args:
        files: The file of each image; None where it has none.
    """
    found = [file for file in files if file is not None]
    stems = [file.stem for file in found]
    if len({stem.casefold() for stem in stems}) < len(stems):
        root = common_folder(found)
        stems = ["_".join(file.relative_to(root).with_suffix("").parts) for file in map(_absolute, found)]
    following = iter(stems)
    return _numbered(f"{place:09d}" if file is None else next(following) for place, file in enumerate(files))


def common_folder(files: Sequence[Path]) -> Path:
    """Return the innermost folder that all files are in."""
    return Path(os.path.commonpath([_absolute(file).parent for file in files]))


def write_image(
    sample: Sample, source: Path | bytes | None, reading: ImageReading, target: Path, mode: Literal["copy", "link"]
) -> Path:
    """Write the file of an image, and return its path.

    Files are taken over byte by byte, EXIF data included, so that a program that reads them upright, as this library
    and most others do, sees what is annotated. Written anew, as PNG, are images without a file, those of a kind that
    data sets do not have, and those that EXIF data would turn although they were annotated as they are stored.

    Args:
        sample: What was read.
        source: The file that it was read from, or its content; None where there is none.
        reading: How it was read.
        target: Where to, without the ending.
        mode: "copy", or "link", which is a hard link, or a symbolic one where the disk is another.

    Raises:
        WriteError: When it cannot be written.
    """
    ending = _ending(source)
    if source is None or ending.lower() not in IMAGE_ENDINGS or _is_turned(source, reading):
        file = target.with_name(f"{target.name}.png")
        save_png(file, sample.image)
        return file
    file = target.with_name(f"{target.name}{ending}")
    with whole_file(file) as partial:
        if isinstance(source, bytes):
            partial.write_bytes(source)
        elif mode == "copy":
            shutil.copyfile(source, partial)
        else:
            # Two names of one file cannot take each other's place.
            file.unlink(missing_ok=True)
            _link(source.resolve(), partial)
    return file


def _ending(source: Path | bytes | None) -> str:
    """Return how the name of a file ends, or of one with this content; of another kind than that of images if none."""
    if not isinstance(source, bytes):
        return "" if source is None else source.suffix
    with Image.open(BytesIO(source)) as image:
        return {"JPEG": ".jpg", "MPO": ".jpg"}.get(str(image.format), f".{image.format}".lower())


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        target.symlink_to(source)


def _is_turned(source: Path | bytes, reading: ImageReading) -> bool:
    """Tell whether who reads a file upright sees another image than the one that was annotated."""
    if reading.exif == "upright":
        return False
    with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
        return exif_orientation(image) != 1


def _absolute(file: Path) -> Path:
    return Path(os.path.abspath(file))


def _numbered(stems: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    different = []
    for stem in stems:
        names = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
        name = next(name for name in names if name.casefold() not in seen)
        seen.add(name.casefold())
        different.append(name)
    return different
