# SPDX-License-Identifier: Apache-2.0
"""A predictor and images in, files of its predictions out: on all processes, and from where an earlier run stopped.

What an image leaves behind for the files of the whole is written last, as `parts/{number}.json`; an image that has that
is finished. Everything is written under another name first, so that a run may be killed at any moment.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

from unisegment.data.export import ExportFormat
from unisegment.data.export.format import ExportedImage
from unisegment.files import PARTIAL, inside, write_text
from unisegment.inference.images import Batch, PreparedImage, Samples, load_batches
from unisegment.inference.object_counts import MostObjects
from unisegment.inference.predictor import Predictor, original_sizes
from unisegment.ops.json_reading import read_json
from unisegment.ops.json_values import shown
from unisegment.postprocessing.resize import check_share
from unisegment.runs.folder_lock import LOCK
from unisegment.runs.processes import decide_once, share_of_process


class OtherRunError(ValueError):
    """The output folder holds predictions of another run."""


@dataclass(frozen=True)
class PartFolder:
    """What each finished image left behind.

    Args:
        folder: Where.
    """

    folder: Path

    def begin(self, settings: Mapping[str, Any], num_images: int) -> list[int]:
        """Make the folder for a run, or find that it is that of the same run, and return which images are left to do.

        Raises:
            OtherRunError: When it was made with other settings, or there are other files beside it.
            ValueError: When it is a link to a folder elsewhere.
            WriteError: When it cannot be made.
        """
        output = self.folder.parent
        file = inside(output, f"{self.folder.name}/settings.json")
        if not file.exists():
            files = (path for path in output.rglob("*") if not path.is_dir())
            if other := next((path for path in files if path.suffix != PARTIAL and path.name != LOCK), None):
                raise OtherRunError(f"{output} holds other files, such as {other}: choose a new or an empty folder.")
            write_text(file, json.dumps(settings, indent=2))
            return list(range(num_images))
        before = _read_own(file, {}, f"choose another folder, or remove {output}")
        changed = [
            f"{key}={settings.get(key)!r} (before: {before.get(key)!r})"
            for key in sorted({*settings, *before})
            if settings.get(key) != before.get(key)
        ]
        if changed:
            raise OtherRunError(
                f"{self.folder.parent} holds predictions of another run, and this one differs in "
                f"{', '.join(changed)}: choose another folder, or remove that one."
            )
        return [index for index in range(num_images) if not self._file(index).exists()]

    def write(self, index: int, content: dict[str, Any]) -> None:
        """Say that an image is finished, and what it left behind."""
        write_text(self._file(index), json.dumps(content))

    def read(self, kinds: Mapping[str, type]) -> Iterator[dict[str, Any]]:
        """Give what the finished images left behind, one after the other, in the order of the images.

        Args:
            kinds: The keys that each has, and what is under them.

        Raises:
            OtherRunError: When a file is damaged.
        """
        for file in sorted(self.folder.glob("[0-9]*.json")):
            yield _read_own(file, kinds, "remove it, and give the same command again")

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:09d}.json"


def predict(
    predictor: Predictor,
    samples: Samples,
    names: Mapping[int, str] | None,
    export: ExportFormat,
    *,
    settings: Mapping[str, Any],
    threshold: float = 0.0,
    batch_size: int = 1,
    workers: int = 0,
    skip_unreadable: bool = False,
) -> dict[str, Any]:
    """Write the predictions of all images; all processes share those that are not finished.

    Args:
        predictor: Makes the predictions.
        samples: The images. Of annotations only the number of objects is looked at, for a note where it exceeds the
            predictor's `top_k`.
        names: Name of each image, after which its results are named; None takes the name of its file without folders.
        export: Writes the files.
        settings: What the predictions depend on. A folder with predictions of other settings is refused.
        threshold: Score that an object must exceed.
        batch_size: Most images that go through the model together.
        workers: Processes that load images.
        skip_unreadable: Leave out images that cannot be read, and list them, rather than raise.

    Returns:
        `images`, how many are finished; `new`, how many of them by this run; `unreadable_images`, what is wrong with
        those left out, which the next run tries again.

    Raises:
        OtherRunError: See `settings`.
        ValueError: When two images have one name, so that one's results replace the other's; a name leads out of the
            folder; or `threshold` is not from 0 to 1.
        WriteError: When something cannot be written; what is finished stays.
    """
    check_share("threshold", threshold)
    if names is not None:
        export.check_names(names.values())
    parts = PartFolder(export.output / "parts")
    todo = decide_once(lambda: parts.begin(settings, len(samples)))
    mine = share_of_process(todo)
    problems: list[str] = []
    most_objects = MostObjects()
    batches = load_batches(
        samples,
        predictor.processor,
        mine,
        batch_size=batch_size,
        workers=workers,
        on_unreadable=problems.extend if skip_unreadable else None,
    )
    is_shown = PartialState().is_main_process
    with tqdm(total=len(mine), desc="predict", unit="image", leave=False, disable=not is_shown) as bar:
        for batch in batches:
            _write_batch(predictor, batch, names, export, parts, threshold)
            most_objects = most_objects.joined((item.sample for item in batch), predictor.thing_label_ids)
            bar.update(len(batch))
    gathered = gather_object([(len(mine) - len(problems), problems, most_objects)])
    numbers, unreadable, of_processes = zip(*gathered, strict=True)
    if PartialState().is_main_process:
        if "instance" in export.tasks:
            max(of_processes).note(predictor)
        kinds = {"name": str, **export.part_kinds}
        export.check_names(part["name"] for part in parts.read(kinds))
        export.finish(lambda: parts.read(kinds))
    PartialState().wait_for_everyone()
    return {
        "images": len(samples) - len(todo) + sum(numbers),
        "new": sum(numbers),
        "unreadable_images": sorted(problem for part in unreadable for problem in part),
    }


def digest(names: list[str]) -> str:
    """Return a short text that differs for other names or another order."""
    return sha256("\n".join(names).encode()).hexdigest()[:16]


def _read_own(file: Path, kinds: Mapping[str, type], remedy: str) -> dict[str, Any]:
    """Return what a file holds that an earlier run has written."""
    try:
        content = read_json(file, "it")
    except ValueError as error:
        raise OtherRunError(f"{file} is damaged ({error}): {remedy}.") from error
    if not isinstance(content, dict):
        raise OtherRunError(f"{file} is damaged (it holds {shown(content)} and no object): {remedy}.")
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise OtherRunError(f"{file} is damaged ({key} is {shown(content.get(key))}): {remedy}.")
    return content


def _write_batch(
    predictor: Predictor,
    batch: Batch,
    names: Mapping[int, str] | None,
    export: ExportFormat,
    parts: PartFolder,
    threshold: float,
) -> None:
    outputs = predictor.forward(batch)
    found: dict[str, list[Any]] = {}
    if "panoptic" in export.tasks:
        found["panoptic"] = predictor.panoptic(batch, outputs)
    if "instance" in export.tasks:
        found["instance"] = predictor.instance(batch, outputs, threshold)
    if "semantic" in export.tasks:
        found["semantic"] = predictor.semantic(batch, outputs)
    for place, (item, size) in enumerate(zip(batch, original_sizes(batch), strict=True)):
        image = ExportedImage(item.sample.image_id, _name(item, names), size)
        content = export.write(image, {task: predictions[place] for task, predictions in found.items()})
        parts.write(item.number, {"name": image.file_name, **content})


def _name(item: PreparedImage, names: Mapping[int, str] | None) -> str:
    return Path(item.sample.file_name).name if names is None else names[item.number]
