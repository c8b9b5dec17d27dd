# SPDX-License-Identifier: Apache-2.0
"""A file in COCO's panoptic format in, everything that is wrong with it out, and the files that it names."""

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unisegment.checking.entries import Entries
from unisegment.checking.entry_lists import CategoryList, ImageList, check_flag, read_lists, repeated
from unisegment.data.problems import CollectedProblems
from unisegment.ops.json_values import read_each, read_id, read_text, read_whole_number, value_of
from unisegment.ops.masks import NUM_COLORS


def check_panoptic_file(
    file: Path, image_dir: Path, map_dir: Path, by_city: bool, findings: CollectedProblems
) -> Entries:
    """Note what is wrong with a file, and return which images and PNG files it lists.

    Args:
        file: The JSON file.
        image_dir: Folder of the images.
        map_dir: Folder of the PNG files.
        by_city: Images lie in folders that are named as their file names begin, up to the first `_`.
        findings: Where to note what is wrong.
    """
    scan = _Scan(file, findings)
    readers = {"categories": scan.categories.add, "images": scan.images.add, "annotations": scan.add_annotation}
    read_lists(file, readers, tuple(readers), findings)
    return scan.finish(image_dir, map_dir, by_city)


class _Scan:
    def __init__(self, file: Path, findings: CollectedProblems) -> None:
        self.file = file
        self.findings = findings
        self.categories = CategoryList(file, findings)
        self.images = ImageList(file, findings)
        self._image_ids: list[Any] = []
        self._map_files: list[str] = []
        self._segment_ids = array("q")
        self._bounds = array("q", [0])
        self._used: dict[int, tuple[int, str]] = {}
        """Number of segments of each category, and where the first is."""

    def add_annotation(self, place: int, entry: Mapping[str, Any]) -> None:
        """Take one entry of `annotations`."""
        image_id, map_file = read_id(entry, "image_id"), read_text(entry, "file_name")
        name = f"annotations[{place}] ({map_file})"
        ids: list[int] = []
        segments = value_of(entry, "segments_info")
        read_each(segments, "segments_info", lambda segment: ids.append(self._add_segment(name, segment)))
        for number in repeated(ids):
            self.findings.add("duplicate-segment-id", self.file, f"{name}: id {number}")
        self._image_ids.append(image_id)
        self._map_files.append(map_file)
        self._segment_ids.extend(number if 0 <= number < NUM_COLORS else -1 for number in ids)
        self._bounds.append(len(self._segment_ids))

    def finish(self, image_dir: Path, map_dir: Path, by_city: bool) -> Entries:
        """Note what only shows when everything is known."""
        place_of = self.images.finish()
        for number, (count, first) in self._used.items():
            if number not in self.categories.names:
                detail = f"{count} segments are of a category {number}, first in {first}"
                self.findings.add("unknown-category", self.file, detail)
        for number, places in repeated(self._image_ids).items():
            files = ", ".join(self._map_files[place] for place in places)
            detail = f"the image {number} is annotated {len(places)} times: {files}"
            self.findings.add("duplicate-annotation", self.file, detail)
        for place, number in enumerate(self._image_ids):
            if number not in place_of:
                detail = f"annotations[{place}] ({self._map_files[place]}): there is no image {number}"
                self.findings.add("unknown-image", self.file, detail)
        annotated = set(self._image_ids)
        for image_id, name in zip(self.images.ids, self.images.files, strict=True):
            if image_id not in annotated:
                self.findings.add("unannotated-image", self.file, f"{name} is left out")
        return self._entries(image_dir, map_dir, by_city, place_of)

    def _add_segment(self, name: str, segment: Mapping[str, Any]) -> int:
        number, category_id = read_whole_number(segment, "id"), read_whole_number(segment, "category_id")
        count, first = self._used.get(category_id, (0, name))
        self._used[category_id] = (count + 1, first)
        if not 0 < number < NUM_COLORS:
            detail = f"{name}: id {number}; a PNG file of three channels holds 1 to {NUM_COLORS - 1}, and 0 is void"
            self.findings.add("id-too-large", self.file, detail)
        check_flag(segment, "iscrowd", name, self.file, self.findings)
        return number

    def _entries(self, image_dir: Path, map_dir: Path, by_city: bool, place_of: dict[int | str, int]) -> Entries:
        known = [place for place, number in enumerate(self._image_ids) if number in place_of]
        images = [place_of[self._image_ids[place]] for place in known]
        names = [self.images.files[place] for place in images]
        spans = [(self._bounds[place], self._bounds[place + 1]) for place in known]
        ids = np.array(self._segment_ids, dtype=np.int64)
        return Entries(
            image_dir=image_dir,
            images=np.array([f"{name.split('_')[0]}/{name}" if by_city else name for name in names], dtype=np.str_),
            map_dir=map_dir,
            label_maps=np.array([self._map_files[place] for place in known], dtype=np.str_),
            source=self.file,
            sizes=np.array([self.images.sizes[place] for place in images], dtype=np.int32).reshape(-1, 2),
            segment_ids=np.concatenate([ids[:0], *(ids[start:end] for start, end in spans)]),
            bounds=np.cumsum([0, *(end - start for start, end in spans)]),
        )
