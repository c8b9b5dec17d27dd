# SPDX-License-Identifier: Apache-2.0
"""A data set in COCO's instance or panoptic format in, a corrected copy of it out; the data set itself stays as it is.

Images are not copied: the copy has links to their folders, and to PNG files that need no change.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unisegment.checking.fixed_file import Annotations, ImageFiles, InstanceAnnotations, Parallel, fix_file
from unisegment.checking.fixed_lists import Changes, FixedLists
from unisegment.checking.fixed_maps import PanopticAnnotations
from unisegment.checking.opening import Part, find_part
from unisegment.checking.parallel import run_parallel
from unisegment.data.formats.format import Found
from unisegment.files import is_within, require_own, whole_folder

_CHANGES = "changes.json"
"""What was changed: `unisegment` (the version), `changes`, a list with `kind`, `file`, `entry` and `change`, and
`counts`, how many of each kind."""
_FORMATS = ("coco_instance", "coco_panoptic")


def fix_data(
    parts: Sequence[Part],
    destination: Path,
    *,
    workers: int | None = None,
    timeout: float = 60,
    progress: bool | None = None,
) -> Changes:
    """Write a corrected copy of the splits of a data set, in the layout of COCO.

    Polygons are cut off at the edges of images; ids that several entries have become new ones; sizes become those of
    the image files; `iscrowd` and `isthing` become 0 or 1; annotations without a shape, of unknown images and of
    unknown categories are left out. `changes.json` lists every change.

    Args:
        parts: The splits; see `check_fix`.
        destination: Folder for the copy. One that an earlier call wrote is replaced.
        workers: Processes that open images; None takes one for each processor.
        timeout: Seconds that an image may take.
        progress: Whether to show progress; None shows it on a terminal.

    Returns:
        The changes, counted.

    Raises:
        FileNotFoundError: When files of the data set are missing.
        ValueError: When an annotation file is not valid JSON; and see `check_fix`.
        WriteError: When the copy cannot be written; what was there before stays.
    """
    check_fix(parts, destination)
    found: dict[str, tuple[Part, Found]] = {}
    for part in parts:
        with suppress(FileNotFoundError):  # a split that is not there, as the check has said
            item = find_part(part)
            found.setdefault(str(item.parts["annotations"]), (part, item))
    if not found:
        raise FileNotFoundError(
            f"{parts[0].data.root} has none of the splits {', '.join(part.split for part in parts)}."
        )
    with whole_folder(destination) as folder, (folder / _CHANGES).open("w", encoding="utf-8") as stream:
        (folder / "annotations").mkdir()
        stream.write(f'{{"unisegment": {json.dumps(metadata.version("unisegment"))}, "changes": [')
        changes = Changes(stream, destination / _CHANGES)
        parallel = partial(_in_parallel, workers=workers, timeout=timeout, progress=progress)
        for part, item in found.values():
            _fix_split(part, item, folder, changes, parallel)
        stream.write(f'\n], "counts": {json.dumps(changes.counts)}}}\n')
    return changes


def check_fix(parts: Sequence[Part], destination: Path) -> None:
    """Find out whether a data set can be fixed into a folder, before any work is done.

    Raises:
        ValueError: When it is in another format, when there are several, or when the folder is the data set, around it
            or in it, or has files of something else.
    """
    roots = {str(part.data.root) for part in parts}
    if len(roots) > 1:
        raise ValueError(f"One data set is fixed at a time, got {', '.join(sorted(roots))}.")
    data = parts[0].data
    if data.format not in _FORMATS:
        raise ValueError(
            f"Only {' and '.join(_FORMATS)} can be fixed, this is {data.format}: write it as one of them first, "
            f"`unisegment convert-data {data.root} DST --to {_FORMATS[0]}`, and fix that."
        )
    places = [Path(data.root)]
    for part in parts:
        with suppress(FileNotFoundError):
            places += find_part(part).parts.values()
    for place in places:
        if is_within(destination, place) or is_within(place, destination):
            raise ValueError(
                f"{destination} is {place}, or one is inside the other: a data set is never fixed in place."
            )
    require_own(destination, os.listdir(destination) if destination.is_dir() else (), _CHANGES, "unisegment")


def _fix_split(part: Part, found: Found, folder: Path, changes: Changes, parallel: Parallel) -> None:
    source, images = found.parts["annotations"], found.parts["images"]
    lists = FixedLists(source, changes)
    annotations: Annotations = InstanceAnnotations(lists)
    name = f"instances_{found.split}"
    if part.data.format == "coco_panoptic":
        name = f"panoptic_{found.split}"
        maps = folder / "annotations" / name
        maps.mkdir()
        annotations = PanopticAnnotations(lists, found.parts.get("segments", source.with_suffix("")), maps)
    fix_file(
        source, folder / f"annotations/{name}.json", lists, annotations, ImageFiles(images, part.data.exif), parallel
    )
    if images.is_dir():
        (folder / found.split).symlink_to(images.resolve(), target_is_directory=True)


def _in_parallel(
    task: Callable[[int], Any], number: int, workers: int | None, timeout: float, progress: bool | None
) -> Iterator[tuple[int, Any]]:
    results = run_parallel(task, range(number), workers, timeout)
    return tqdm(
        results, total=number, desc="fixing", unit=" images", disable=None if progress is None else not progress
    )
