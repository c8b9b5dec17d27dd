# SPDX-License-Identifier: Apache-2.0
"""A predictor and images in, files of its predictions out: on all processes, and from where an earlier run stopped.

What an image leaves behind for the files of the whole is written last, as `parts/{number}.json`; an image that has that
is finished. Everything is written under another name first, so that a run may be killed at any moment.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from torch import nn

from unisegment.data.annotated_images import AnnotatedImages, with_range
from unisegment.data.export import EXPORT_FORMATS, ExportFormat, open_export
from unisegment.data.export.format import ExportedImage
from unisegment.data.image_folder import ImageFolder
from unisegment.files import PARTIAL, inside, write_text
from unisegment.inference.images import Batch, Images, Report, noting
from unisegment.inference.object_counts import MostObjects
from unisegment.inference.predictor import Predictor
from unisegment.ops.json_reading import read_json
from unisegment.ops.json_values import shown
from unisegment.ops.tf32 import is_tf32_allowed
from unisegment.ops.transfers import fetch
from unisegment.postprocessing.resize import check_share
from unisegment.runs.folder_lock import LOCK, locked
from unisegment.runs.processes import decide_once, share_of_process

OnImage = Callable[[ExportedImage, Mapping[str, Any]], None]
"""Is told of an image whose files are written, and of its predictions by task."""


_DIGESTS = {"image_names": "other names of images", "weights": "other weights"}


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
            _difference(key, settings.get(key), before.get(key))
            for key in sorted({*settings, *before})
            # Earlier versions did not write which weights they had.
            if settings.get(key) != before.get(key) and (key != "weights" or key in before)
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


def export_predictions(
    predictor: Predictor,
    images: Images,
    output: Path,
    export_format: str,
    *,
    formats: Mapping[str, type[ExportFormat]] = EXPORT_FORMATS,
    names: Sequence[str] | None = None,
    source: str = "",
    threshold: float = 0.0,
    run_name: str = "unisegment",
    batch_size: int = 1,
    workers: int = 0,
    on_unreadable: Report | None = None,
    on_image: OnImage | None = None,
) -> dict[str, Any]:
    """Write the predictions of all images; all processes share those that are not finished, and a rerun goes on.

    Args:
        predictor: Makes the predictions.
        images: A folder; a data set with the predictor's labels (see `unisegment.inference.labels`), whose categories
            the files then have; or other images. Of annotations only the number of objects is looked at, for a note
            where it exceeds the predictor's `top_k`.
        output: Folder for the files; see `unisegment.data.export` for those of each format.
        export_format: Name of the format.
        formats: All formats.
        names: Name of each image, after which its results are named. None takes the names of a folder, which are
            relative to it, or else that of each file without folders.
        source: What the images are, in words; a run on another source does not go on in the same folder.
        threshold: Score that an object must exceed; 0, as for evaluation, keeps the `top_k` best.
        run_name: Name of the algorithm in the names of files for servers.
        batch_size: Most images that go through the model together.
        workers: Processes that load images.
        on_unreadable: Is told what is wrong with images that cannot be read, which are then left out. None raises.
        on_image: Is told of each image, and its predictions by task, when its files are written.

    Returns:
        `images`, how many are finished; `new`, how many of them by this run; `unreadable_images`, what is wrong with
        those left out, which the next run tries again.

    Raises:
        OtherRunError: When the folder holds other files, or predictions of other settings.
        ValueError: When two images have one name, so that one's results replace the other's; a name leads out of the
            folder; or `threshold` is not from 0 to 1.
        WriteError: When something cannot be written; what is finished stays.
    """
    check_share("threshold", threshold)
    if isinstance(images, ImageFolder):
        images.leave_out(output)
        images, names = with_range(images, predictor.processor.reading.range), images.names
    categories = images.categories if isinstance(images, AnnotatedImages) else predictor.categories
    settings = {
        "checkpoint": predictor.checkpoint,
        "source": source,
        "format": export_format,
        "images": len(images),
        "image_names": None if names is None else digest(names),
        "categories": [[category.id, category.name] for category in categories],
        "size": predictor.processor.size,
        "panoptic_threshold": predictor.panoptic_threshold,
        "threshold": threshold,
        "top_k": predictor.top_k,
        "test_time_augmentation": None if predictor.scales is None else list(predictor.scales),
        "run_name": run_name,
        # None, so that a folder begun before there was a choice can be gone on with.
        "dtype": None if predictor.dtype == "auto" else predictor.dtype,
        "tf32": None if is_tf32_allowed() else False,
    }
    export = open_export(export_format, output, categories, run_name, formats)
    if names is not None:
        export.check_names(names)
    settings |= {"weights": weights_digest(predictor.model), **export.settings}
    with locked(output):
        run = _ExportRun(predictor, export, names, threshold, PartFolder(output / "parts"), on_image)
        todo = decide_once(lambda: run.parts.begin(settings, len(images)))
        new, problems = run.write(images, share_of_process(todo), batch_size, workers, on_unreadable)
    return {"images": len(images) - len(todo) + new, "new": new, "unreadable_images": problems}


@dataclass
class _ExportRun:
    """Writes the predictions of images and, at the end, of all together."""

    predictor: Predictor
    export: ExportFormat
    names: Sequence[str] | None
    threshold: float
    parts: PartFolder
    on_image: OnImage | None

    def write(
        self, images: Images, mine: Sequence[int], batch_size: int, workers: int, on_unreadable: Report | None
    ) -> tuple[int, list[str]]:
        """Write all, and return how many images all processes did, and what is wrong with those that they left out."""
        problems: list[str] = []
        most_objects = MostObjects()
        for batch, outputs in self.predictor.stream(
            images,
            mine,
            batch_size=batch_size,
            workers=workers,
            on_unreadable=noting(problems, on_unreadable),
            description="predict",
        ):
            self._write_batch(batch, outputs)
            most_objects = most_objects.joined(batch, self.predictor.thing_label_ids)
        gathered = gather_object([(len(mine) - len(problems), problems, most_objects)])
        numbers, unreadable, of_processes = zip(*gathered, strict=True)
        if PartialState().is_main_process:
            if "instance" in self.export.tasks:
                max(of_processes).note(self.predictor)
            kinds = {"name": str, **self.export.part_kinds}
            self.export.check_names(part["name"] for part in self.parts.read(kinds))
            self.export.finish(lambda: self.parts.read(kinds))
        PartialState().wait_for_everyone()
        return sum(numbers), sorted(problem for part in unreadable for problem in part)

    def _write_batch(self, batch: Batch, outputs: Any) -> None:
        predictor, found = self.predictor, dict[str, list[Any]]()
        if "panoptic" in self.export.tasks:
            found["panoptic"] = predictor.panoptic(batch, outputs)
        if "instance" in self.export.tasks:
            found["instance"] = predictor.instance(batch, outputs, self.threshold)
        if "semantic" in self.export.tasks:
            found["semantic"] = predictor.semantic(batch, outputs)
        for place, item in enumerate(batch):
            name = Path(item.image.file_name).name if self.names is None else self.names[item.number]
            image = ExportedImage(item.image.image_id, name, item.image.size, item.image.image)
            of_image = {task: predictions[place] for task, predictions in found.items()}
            content = self.export.write(image, of_image)
            self.parts.write(item.number, {"name": name, **content})
            if self.on_image is not None:
                self.on_image(image, of_image)


def _difference(key: str, now: Any, before: Any) -> str:
    """Say in what two runs differ; of lists, how long they are, and nothing of digests."""
    if key in _DIGESTS:
        return _DIGESTS[key]
    if isinstance(now, list) and isinstance(before, list):
        return f"{key} ({len(now)} now, {len(before)} before{'' if len(now) != len(before) else ', but others'})"
    return f"{key}={now!r} (before: {before!r})"


def weights_digest(model: nn.Module) -> str:
    """Return a short text that differs for other weights, such as those of a model that was trained further."""
    weights, of_model = sha256(), sorted(model.state_dict().items())
    starts = fetch(*(weight.flatten()[:8] for _, weight in of_model))  # before float64, which not all devices have
    for (name, _), start in zip(of_model, starts, strict=True):
        weights.update(name.encode() + start.double().numpy().tobytes())
    return weights.hexdigest()[:16]


def digest(names: Sequence[str]) -> str:
    """Return a short text that differs for other names or another order."""
    return sha256("\n".join(names).encode("utf-8", "surrogatepass")).hexdigest()[:16]


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
