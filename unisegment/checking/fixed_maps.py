# SPDX-License-Identifier: Apache-2.0
"""The annotations of a COCO panoptic file and its PNG files in, ones that agree with each other out."""

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from unisegment.checking.fixed_file import Parallel
from unisegment.checking.fixed_lists import FixedLists
from unisegment.data.annotated_images import distinct_ids
from unisegment.files import WriteError, inside
from unisegment.ops.json_values import read_each, read_id, read_text, read_whole_number, value_of
from unisegment.ops.masks import NUM_COLORS, ids_to_rgb, rgb_to_ids

_IN_COLORS = ("RGB", "RGBA", "P")


class _Map(NamedTuple):
    """A PNG file, and what is listed for it."""

    image: int
    """Place of the image."""
    file: str
    segment_ids: list[int]
    """Each once, those of known categories."""


class _Compared(NamedTuple):
    """How a PNG file differs from what is listed for it."""

    unlisted: list[int]
    undrawn: set[int]


class PanopticAnnotations:
    """What becomes of the entries of `annotations`, and of the PNG files.

    Pixels of segments that are not listed become void, as do those of segments that are left out; segments without a
    pixel are left out. PNG files that need no change are linked.

    Args:
        lists: Categories and images of the file.
        source: Folder of the PNG files.
        target: Folder for those that belong to the corrected file.
    """

    def __init__(self, lists: FixedLists, source: Path, target: Path) -> None:
        self._lists = lists
        self._source, self._target = source, target
        self._known: list[tuple[int | str, str] | None] = []
        self._segments = array("q")
        self._bounds = array("q", [0])
        self._maps: dict[int, _Map] = {}
        self._undrawn: dict[int, set[int]] = {}

    def look_at(self, place: int, entry: Any) -> None:
        """Take an entry, when all are looked at."""
        pairs: list[tuple[int, int]] = []
        try:
            known = (read_id(entry, "image_id"), read_text(entry, "file_name"))
            inside(self._target, known[1])
            read_each(
                value_of(entry, "segments_info"),
                "segments_info",
                lambda segment: pairs.append(
                    (read_whole_number(segment, "id"), read_whole_number(segment, "category_id"))
                ),
            )
        except ValueError as error:
            self._known.append(None)
            self._lists.add("wrong-structure", f"annotations[{place}]", f"left out: {error}")
        else:
            self._known.append(known)
            for pair in pairs:
                self._segments.extend(pair)
        self._bounds.append(len(self._segments))

    def finish(self, parallel: Parallel) -> None:
        """Look at the PNG files, and write or link them.

        Raises:
            WriteError: When one cannot be written.
        """
        place_of: dict[str, int] = {}
        for place, known in enumerate(self._known):
            image = None if known is None else self._lists.place_of(*known)
            if known is not None and image in self._lists.sizes and place_of.setdefault(known[1], place) == place:
                pairs = np.array(self._segments[self._bounds[place] : self._bounds[place + 1]]).reshape(-1, 2).tolist()
                ids = dict.fromkeys(number for number, category in pairs if not self._refusal(number, category))
                self._maps[place] = _Map(image, known[1], [*ids])
        places = [*self._maps]
        for number, found in parallel(_FixMap(self._source, self._target, [*self._maps.values()]), len(places)):
            if isinstance(found, WriteError):
                raise found
            place = places[number]
            target = self._target / self._maps[place].file
            if not isinstance(found, _Compared):
                target.unlink(missing_ok=True)
            elif found.undrawn:
                self._undrawn[place] = found.undrawn
            if isinstance(found, _Compared) and found.unlisted:
                self._lists.add("unlisted-segment", str(target.name), f"pixels of {found.unlisted[:5]} became void")
            source = self._source / self._maps[place].file
            if not target.exists() and source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(source.resolve())

    def fix(self, place: int, entry: Any) -> dict[str, Any] | None:
        """Return what is written of an entry; None for nothing."""
        known, item = self._known[place], self._maps.get(place)
        if known is None:
            return None  # as was noted
        name = f"annotations[{place}] ({known[1]})"
        if item is None:
            image = self._lists.place_of(*known)
            is_known = image in self._lists.sizes
            kind = "duplicate-annotation" if is_known else "unknown-image"
            why = "one before has the same PNG file" if is_known else f"there is no image {known[0]}"
            self._lists.add(kind, name, f"left out: {why}")
            return None
        segments, seen = [], set()
        for segment in entry["segments_info"]:
            number, category = read_whole_number(segment, "id"), read_whole_number(segment, "category_id")
            refusal = self._refusal(number, category)
            if refusal is None and number in seen:
                refusal = ("duplicate-segment-id", "one before has the same id")
            if refusal is None and number in self._undrawn.get(place, ()):
                refusal = ("undrawn-segment", "it has no pixel")
            if refusal is not None:
                self._lists.add(refusal[0], name, f"segment {number} left out: {refusal[1]}")
                continue
            seen.add(number)
            segments.append(self._lists.fix_flag(dict(segment), "iscrowd", f"{name}, segment {number}"))
        return {**entry, "image_id": self._lists.id_of(item.image), "segments_info": segments}

    def _refusal(self, number: int, category: int) -> tuple[str, str] | None:
        if category not in self._lists.category_ids:
            return "unknown-category", f"there is no category {category}; its pixels became void"
        if not 0 < number < NUM_COLORS:
            return "id-too-large", f"PNG files hold ids from 1 to {NUM_COLORS - 1}"
        return None


@dataclass(frozen=True)
class _FixMap:
    """Compares PNG files with what is listed, and writes those again that have other ids.

    Of files of other images or other kinds it returns None. Broken ones raise, so an error of writing, which is no
    fault of the file, is returned.
    """

    source: Path
    target: Path
    maps: list[_Map]

    def __call__(self, number: int) -> _Compared | WriteError | None:
        _, name, listed = self.maps[number]
        with Image.open(self.source / name) as image:
            # Of other files the ids are unknown: they stay as they are.
            if image.format != "PNG" or image.mode not in _IN_COLORS:
                return None
            ids = rgb_to_ids(np.asarray(image.convert("RGB")))
        drawn = distinct_ids(ids) - {0}
        if listed and not drawn & {*listed}:
            return None  # it is of another image
        unlisted = sorted(drawn - {*listed})
        if unlisted:
            file = self.target / name
            pixels = Image.fromarray(ids_to_rgb(np.where(np.isin(ids, unlisted), 0, ids)))
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                pixels.save(file)
            except OSError as error:
                return WriteError.of(file, error)
        return _Compared(unlisted, {*listed} - drawn)
