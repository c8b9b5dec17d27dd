# SPDX-License-Identifier: Apache-2.0
"""One part of a data set in, its reader and the files of its samples out, and what stands against opening it.

What a reader refuses as a whole does not end the check: the files are listed without it.
"""

import os
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unisegment.checking.entries import Entries
from unisegment.checking.instance_file import check_instance_file
from unisegment.checking.panoptic_file import check_panoptic_file
from unisegment.data.annotated_images import AnnotatedImages, SampleFiles
from unisegment.data.formats import FORMATS, coco_instance, coco_panoptic, find_split
from unisegment.data.formats.format import Found
from unisegment.data.problems import CollectedProblems
from unisegment.data.reading.image_reading import ImageReading
from unisegment.data.reading.label_maps import IMAGE_ENDINGS
from unisegment.data.splitting import part_of_split
from unisegment.runs.data_opening import open_split
from unisegment.runs.data_recipe import DataRecipe


@dataclass(frozen=True)
class Part:
    """One split of a data set.

    Args:
        data: What a recipe says about the data set.
        split: Name of the split.
        given_name: How reports call it; None is its folder and split.
        top_k: Most objects that predictions of an image have.
    """

    data: DataRecipe
    split: str
    given_name: str | None = None
    top_k: int = 100

    @property
    def name(self) -> str:
        """How reports call it."""
        return self.given_name or f"{self.data.root}: {self.split}"

    @property
    def reading(self) -> ImageReading:
        """How its images are read."""
        return ImageReading(self.data.exif, self.data.range)


@dataclass(frozen=True)
class OpenedPart:
    """What can be read of a part.

    Args:
        part: The part.
        samples: Its reader; None if it cannot be opened.
        unopened: The files that are looked at where it cannot be opened.
    """

    part: Part
    samples: AnnotatedImages | None
    unopened: Entries | None = None

    def __len__(self) -> int:
        images: Sized | None = self.samples if self.samples is not None else self.unopened
        return 0 if images is None else len(images)

    def name_of(self, index: int) -> str:
        """Return how reports call a sample: its image file, or its number where it has none."""
        entry = self.files(index)
        return f"{self.part.name}[{index}]" if entry is None else str(entry.image)

    def files(self, index: int) -> SampleFiles | None:
        """Return the files of a sample; None where its image is no file of its own."""
        if self.samples is not None:
            return self.samples.files(index)
        assert self.unopened is not None
        return self.unopened[index]


def open_part(part: Part, findings: CollectedProblems) -> OpenedPart:
    """Open a part as training does, and note what is wrong with it as a whole."""
    try:
        found = find_part(part)
    except FileNotFoundError as error:
        findings.add("no-data", part.data.root, str(error))
        return OpenedPart(part, None)
    entries = _check_file(found, FORMATS[part.data.format].open, findings)
    name = part.name if entries is None else str(entries.source)
    samples = _try(lambda: open_split(part.data, part.split, findings), name, findings)
    if samples is not None and len(samples) == 0:
        findings.add("no-images", part.name, "the data set has no images")
    if samples is None and not entries and "images" in found.parts:
        names = sorted(_images_under(found.parts["images"]))
        entries = Entries(image_dir=found.parts["images"], images=np.array(names, dtype=np.str_))
    return OpenedPart(part, samples, entries)


def find_part(part: Part) -> Found:
    """Return the files of a part.

    Raises:
        FileNotFoundError: When they are missing.
        ValueError: When places that are given do not fit.
    """
    data = part.data
    whole, _ = part_of_split(part.split, data.splits, data.val_share, data.split_seed)
    places = {"annotations": data.annotations, "images": data.images, "segments": data.segments}
    return find_split(data.root, FORMATS[data.format], whole, places)


def _check_file(found: Found, opens: Callable[..., AnnotatedImages], findings: CollectedProblems) -> Entries | None:
    """Note what is wrong with a file in one of COCO's formats; return the files that it names."""
    if opens not in (coco_instance.open_found, coco_panoptic.open_found):
        return None
    annotation_file, image_dir = found.parts["annotations"], found.parts["images"]
    if opens is coco_instance.open_found:
        entries = check_instance_file(annotation_file, image_dir, findings)
    else:
        map_dir = found.parts.get("segments", annotation_file.with_suffix(""))
        by_city = found.settings.get("images_by_city", False)
        entries = check_panoptic_file(annotation_file, image_dir, map_dir, by_city, findings)
        assert entries.label_maps is not None
        _note_unlisted(entries, map_dir, entries.label_maps, "unlisted-label-map", findings)
    _note_unlisted(entries, image_dir, entries.images, "unlisted-image", findings)
    return entries


def _try(
    open_reader: Callable[[], AnnotatedImages], name: Path | str, findings: CollectedProblems
) -> AnnotatedImages | None:
    try:
        return open_reader()
    except (ValueError, OSError) as error:
        findings.add("no-data" if isinstance(error, FileNotFoundError) else "not-opened", name, str(error))
    except Exception as error:
        findings.add("unexpected-exception", name, f"{type(error).__name__}: {error}")
    return None


def _note_unlisted(
    entries: Entries, folder: Path, listed: Iterable[str], kind: str, findings: CollectedProblems
) -> None:
    if not len(entries):
        return
    known = {os.path.normpath(name) for name in listed}
    for name in sorted(set(_images_under(folder)) - known):
        findings.add(kind, folder / name, "nothing refers to it")


def _images_under(folder: Path) -> Iterable[str]:
    for place, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(IMAGE_ENDINGS):
                yield os.path.normpath(os.path.relpath(os.path.join(place, name), folder))
