# SPDX-License-Identifier: Apache-2.0
"""A split that was written, and what was to be written of each image, in; what differs out."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.writing.data_set_writer import DataSetWriter
from unisegment.data.writing.image_files import image_file
from unisegment.runs.part_folder import PartFolder, read_own

PART_KINDS: Mapping[str, type] = {"file_name": str, "segments": list, "lost": dict}
"""What each image leaves behind, whatever the format."""


class Comparison(Dataset[str | None]):
    """Images that are read back and compared when they are asked for by their number; gives what differs.

    Args:
        writer: What has written them.
        parts: What each finished image left behind.
        folder: Where the image files of the split are.
        images: The split, read back.

    Raises:
        ValueError: When it has other categories than were written.
    """

    def __init__(self, writer: DataSetWriter, parts: PartFolder, folder: Path, images: AnnotatedImages) -> None:
        self._writer = writer
        self._parts = parts
        self._folder = folder
        self._images = images
        writer.check_categories(images.categories)
        self._places = {os.path.abspath(image_file(images, place) or ""): place for place in range(len(images))}

    def __getitem__(self, number: int) -> str | None:
        part = read_own(self._parts.file(number), PART_KINDS, "remove it, and give the same command again")
        file = self._folder / part["file_name"]
        place = self._places.get(os.path.abspath(file))
        if place is None:
            return f"{file} was written, but is not read back."
        return self._difference(file, part["segments"], self._writer.summary(self._images[place].target))

    def _difference(self, file: Path, written: Sequence[Any], read: Sequence[Any]) -> str | None:
        written, read = ([tuple(segment) for segment in segments] for segments in (written, read))
        lacking, added = Counter(written) - Counter(read), Counter(read) - Counter(written)
        if not lacking and not added:
            return None
        return (
            f"{file}: {len(written)} segments were written and {len(read)} read back. Only written: "
            f"{self._shown(lacking)}; only read back: {self._shown(added)}."
        )

    def _shown(self, segments: Mapping[tuple[int, int, int], int]) -> str:
        words = [
            f"{'a crowd of ' if is_crowd else ''}{self._writer.categories[label].name!r}, {area} pixels"
            for label, is_crowd, area in [*segments][:3]
        ]
        return " and ".join(words) or "none"
