# SPDX-License-Identifier: Apache-2.0
"""A predictor and images in, files of its predictions out: on all processes, and from where an earlier run stopped.

Everything is written under another name first, and what an image leaves behind for the files of the whole last (see
`unisegment.runs.part_folder`), so that a run may be killed at any moment.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor, nn

from unisegment.data.annotated_images import AnnotatedImages, with_range
from unisegment.data.export import EXPORT_FORMATS, ExportFormat, open_export
from unisegment.data.export.format import ExportedImage
from unisegment.data.image_sources import ImageList
from unisegment.inference.images import Batch, Images, Report, noting
from unisegment.inference.object_counts import MostObjects
from unisegment.inference.predictor import Predictor
from unisegment.ops.tf32 import is_tf32_allowed
from unisegment.ops.transfers import fetch
from unisegment.postprocessing.resize import check_share
from unisegment.runs.folder_lock import locked
from unisegment.runs.part_folder import PartFolder, digest
from unisegment.runs.processes import decide_once, share_of_process

OnImage = Callable[[ExportedImage, Mapping[str, Any]], None]
"""Is told of an image whose files are written, and of its predictions by task."""


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
        images: What `open_images` returns, but no iterator, read with the range of numbers of the predictor; a data set
            with the predictor's labels (see `unisegment.inference.labels`), whose categories the files then have; or
            other images. Of annotations only the number of objects is looked at, for a note where it exceeds the
            predictor's `top_k`.
        output: Folder for the files; see `unisegment.data.export` for those of each format.
        export_format: Name of the format.
        formats: All formats.
        names: Name of each image, after which its results are named. None takes those that `open_images` gave, or else
            that of each file without folders. Where names are known, and the format has no ids of images, a rerun may
            have more images.
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
        OtherRunError: When the folder holds other files, or predictions of other settings, or of an image that is gone.
        ValueError: When two images have one name, so that one's results replace the other's; a name leads out of the
            folder; the processor does not read what the format holds; or `threshold` is not from 0 to 1.
        WriteError: When something cannot be written; what is finished stays.
    """
    check_share("threshold", threshold)
    if isinstance(images, ImageList):
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
    for reason in map(predictor.processor.why_not, export.tasks):
        if reason is not None:
            raise ValueError(reason)
    settings |= {"weights": weights_digest(predictor.model), **export.settings}
    parts = PartFolder(output / "parts", names, may_grow=names is not None and not export.has_image_ids)
    with locked(output):
        run = _ExportRun(predictor, export, names, threshold, parts, on_image)
        todo = decide_once(lambda: parts.begin(settings, len(images)))
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
            if self.names is None:  # others have been checked
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


def weights_digest(model: nn.Module) -> str:
    """Return a short text that differs for other weights, such as those of a model that was trained further."""
    weights, of_model = sha256(), sorted(model.state_dict().items())
    # int8 weights of torchao have functions of their own.
    plain = [weight if type(weight) is Tensor else weight.dequantize() for _, weight in of_model]
    starts = fetch(*(weight.flatten()[:8] for weight in plain))  # before float64, which not all devices have
    for (name, _), start in zip(of_model, starts, strict=True):
        weights.update(name.encode() + start.double().numpy().tobytes())
    return weights.hexdigest()[:16]
