# SPDX-License-Identifier: Apache-2.0
"""One part of a data set in, its reader and the files of its samples out, and what stands against opening it.

What a reader refuses as a whole does not end the check: the files are listed without it.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unisegment.checking.entries import Entries
from unisegment.checking.findings import Findings
from unisegment.checking.instance_file import check_instance_file
from unisegment.checking.panoptic_file import check_panoptic_file
from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.formats.coco_instance import CocoInstance, instance_files
from unisegment.data.formats.coco_panoptic import CocoPanoptic, panoptic_files
from unisegment.data.reading.image_reading import ImageReading
from unisegment.data.reading.label_maps import IMAGE_ENDINGS, Pairing, forgiving_pairs
from unisegment.runs.recipe import DataRecipe
from unisegment.runs.recipe_data import open_split

INSTANCE_FORMATS = ("coco_instance", "ade20k_instance")
PANOPTIC_FORMATS = ("coco_panoptic", "ade20k_panoptic", "cityscapes_panoptic", "mapillary_vistas_panoptic", "synthetic")
LABEL_MAP_FORMATS = (
    "ade20k_semantic",
    "cityscapes_semantic",
    "cityscapes_instance",
    "mapillary_vistas_semantic",
    "png_semantic",
    "png_instance",
)


@dataclass(frozen=True)
class Part:
    """One split of a data set.

    Args:
        data: What a recipe says about the data set.
        split: Name of the split.
        paths: JSON file and folders, where they are given one by one; `data.root` is then without meaning.
        top_k: Most objects that predictions of an image have.
    """

    data: DataRecipe
    split: str
    paths: tuple[Path, ...] = ()
    top_k: int = 100

    @property
    def name(self) -> str:
        """How reports call it."""
        return str(self.paths[0]) if self.paths else f"{self.data.root}: {self.split}"

    @property
    def reading(self) -> ImageReading:
        """How its images are read."""
        return ImageReading(self.data.exif, self.data.range)

    def open(self) -> AnnotatedImages:
        """Return the reader that training uses.

        Raises:
            FileNotFoundError: When files are missing.
            ValueError: When a file is not as the format wants it.
        """
        # What it leaves out with `on_error=skip` is a finding here, and who looks for it says so.
        return open_split(replace(self.data, on_error="raise"), self.split)


@dataclass(frozen=True)
class OpenedPart:
    """What can be read of a part.

    Args:
        part: The part.
        samples: Its reader; None if it cannot be opened.
        entries: The files of its samples; None if only the reader knows them.
        hidden_segments: Segments may be listed of which no pixel is to be seen.
    """

    part: Part
    samples: AnnotatedImages | None
    entries: Entries | None = None
    hidden_segments: bool = False

    def __len__(self) -> int:
        return len(self.entries) if self.entries is not None else len(self.samples) if self.samples is not None else 0


def open_part(part: Part, findings: Findings) -> OpenedPart:
    """Open a part, and note what is wrong with it as a whole."""
    root, data_format = Path(part.data.root), part.data.format
    try:
        if data_format in INSTANCE_FORMATS:
            opened = _open_instance(part, findings)
        elif data_format in PANOPTIC_FORMATS:
            opened = _open_panoptic(part, findings)
        elif data_format in LABEL_MAP_FORMATS:
            opened = _open_label_maps(part, findings)
        else:
            opened = OpenedPart(part, _try(part.open, part.name, findings))
    except FileNotFoundError as error:
        findings.add("no-data", root, str(error))
        return OpenedPart(part, None)
    if opened.samples is not None:
        opened.samples.reading = part.reading
    if opened.samples is not None and len(opened.samples) == 0:
        findings.add("no-images", part.name, "the data set has no images")
    return opened


def _open_instance(part: Part, findings: Findings) -> OpenedPart:
    annotation_file, image_dir = part.paths or instance_files(part.data.root, part.split)
    entries = check_instance_file(annotation_file, image_dir, findings)
    _note_unlisted(entries, image_dir, entries.images, "unlisted-image", findings)
    void_ids = part.data.void_ids
    samples = _try(
        lambda: CocoInstance(annotation_file, image_dir, void_categories=void_ids), annotation_file, findings
    )
    return OpenedPart(part, samples, _fitting(entries, samples))


def _open_panoptic(part: Part, findings: Findings) -> OpenedPart:
    settings: dict[str, Any] = {}
    if part.paths:
        annotation_file, image_dir, panoptic_dir = part.paths
    else:
        files, settings = panoptic_files(part.data.root, part.split, part.data.void_ids)
        annotation_file, image_dir, panoptic_dir = files
    entries = check_panoptic_file(
        annotation_file, image_dir, panoptic_dir, settings.get("images_by_city", False), findings
    )
    assert entries.label_maps is not None
    _note_unlisted(entries, image_dir, entries.images, "unlisted-image", findings)
    _note_unlisted(entries, panoptic_dir, entries.label_maps, "unlisted-label-map", findings)
    samples = _try(
        lambda: CocoPanoptic(annotation_file, image_dir, panoptic_dir, **settings), annotation_file, findings
    )
    return OpenedPart(part, samples, _fitting(entries, samples), settings.get("hidden_segments", False))


def _open_label_maps(part: Part, findings: Findings) -> OpenedPart:
    root = Path(part.data.root)
    with forgiving_pairs() as pairings:
        samples = _try(part.open, root, findings)
    pairing = Pairing() if not pairings else pairings[-1]
    for image, label_map in pairing.without_map:
        findings.add("missing-label-map", root / label_map, f"it belongs to {image}")
    for one, other in pairing.same_name:
        findings.add("same-name-images", root / one, f"{other} has the same name")
    for label_map in pairing.without_image:
        findings.add("unlisted-label-map", root / label_map, "there is no image of its name")
    for folder in pairing.folders:
        findings.add("folder-named-as-image", root / folder, "it is a folder")
    images, label_maps = ([pair[column] for pair in pairing.paired] for column in (0, 1))
    entries = Entries(
        image_dir=root,
        images=np.array(images, dtype=np.str_),
        map_dir=root,
        label_maps=np.array(label_maps, dtype=np.str_),
    )
    return OpenedPart(part, samples, entries)


def _try(open_reader: Callable[[], AnnotatedImages], name: Path | str, findings: Findings) -> AnnotatedImages | None:
    try:
        return open_reader()
    except (ValueError, OSError) as error:
        findings.add("no-data" if isinstance(error, FileNotFoundError) else "not-opened", name, str(error))
    except Exception as error:
        findings.add("unexpected-exception", name, f"{type(error).__name__}: {error}")
    return None


def _fitting(entries: Entries, samples: AnnotatedImages | None) -> Entries | None:
    """Return the files of the samples; those in the folder of the images if the annotation file could not say them."""
    if samples is not None:
        return entries if len(entries) == len(samples) else None
    if len(entries):
        return entries
    names = sorted(_images_under(entries.image_dir))
    return Entries(image_dir=entries.image_dir, images=np.array(names, dtype=np.str_))


def _note_unlisted(entries: Entries, folder: Path, listed: Iterable[str], kind: str, findings: Findings) -> None:
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
