# SPDX-License-Identifier: Apache-2.0
"""The library in one class: images in, results out; a data set in, scores or a trained model out."""

import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.choices import Matching, OnError, OutputName
from unisegment.data.export import EXPORT_FORMATS
from unisegment.data.image_sources import open_images
from unisegment.data.reading.image_reading import ImageReading
from unisegment.inference.evaluation import evaluate
from unisegment.inference.export_run import OnImage, export_predictions
from unisegment.inference.images import Report, reporting
from unisegment.inference.labels import match_data_set
from unisegment.inference.picture_export import pictures_of
from unisegment.inference.predictor import Predictor, open_predictor
from unisegment.inference.result import Result, results_of
from unisegment.models.choices import Dtype
from unisegment.runs.data_opening import open_evaluation_data
from unisegment.runs.part_folder import OtherRunError
from unisegment.structures import TASKS

__all__ = ["OtherRunError", "Segmenter"]


class Segmenter:
    """A model that is ready to use: `Segmenter.from_pretrained("user/name")("photo.jpg").draw().save("seen.png")`.

    Args:
        predictor: Model, image processor and thresholds.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        # With the range of numbers that the checkpoint expects.
        self._reading = ImageReading(range=predictor.processor.reading.range)

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | os.PathLike[str],
        *,
        device: str | torch.device | None = None,
        dtype: Dtype | torch.dtype = "auto",
        compile: bool = False,
        decoder_layers: int | None = None,
        size: int | Mapping[str, int] | None = None,
        panoptic_threshold: float = 0.8,
        top_k: int = 100,
        augment: bool = False,
    ) -> "Segmenter":
        """Open a checkpoint.

        Args:
            checkpoint: A Hub id; a folder of a checkpoint or of a finished run; one of transformers, such as its
                Mask2Former, as it is; or a file of the original code (`model_final.pkl`).
            device: Where to compute; None takes a GPU where there is one (CUDA, or Apple's), else the CPU.
            dtype: What the network computes in, such as "bfloat16" or torch.bfloat16; "auto" is what the checkpoint was
                saved in.
            compile: Compile the network with torch.compile. The first image takes minutes, and so does the first batch
                of several; a line then says what compilation took and what it gives.
            decoder_layers: Leave out the last layers of the transformer decoder, for speed: of a checkpoint of 10, the
                config's number, 7 keeps most of the quality. None takes all.
            size: Pixels of the short side that images are resized to, or all of the processor's `size`; None is that of
                the checkpoint.
            panoptic_threshold: Smallest score in [0, 1] of a panoptic segment, where a call names no other one.
            top_k: Most objects of an image.
            augment: Make semantic results from several sizes of each image, mirrored and not.

        Raises:
            FileNotFoundError: When there is no such checkpoint.
            ValueError: When it cannot be read, or a value is none of these.
        """
        return cls(
            open_predictor(
                checkpoint,
                device=device,
                dtype=dtype,
                compile=compile,
                decoder_layers=decoder_layers,
                size=size,
                panoptic_threshold=panoptic_threshold,
                top_k=top_k,
                augment=augment,
            )
        )

    @property
    def labels(self) -> dict[int, str]:
        """Name of each label."""
        return dict(self.predictor.id2label)

    @property
    def task(self) -> str:
        """What the labels are made for: "semantic" without things, "instance" without stuff, otherwise "panoptic"."""
        return self.predictor.task

    @property
    def model(self) -> Any:
        """The model, a module of torch."""
        return self.predictor.model

    @property
    def processor(self) -> Any:
        """The image processor."""
        return self.predictor.processor

    def __repr__(self) -> str:
        return f"Segmenter({self.predictor.checkpoint!r}, {len(self.labels)} labels, task={self.task!r})"

    def __call__(
        self, images: Any, *, threshold: float = 0.5, panoptic_threshold: float | None = None, batch_size: int = 1
    ) -> Any:
        """Segment an image, or a list of them.

        Args:
            images: A path, an address, the bytes of a file, an image of Pillow, an array or a tensor (h w 3), or (3 h
                w); or a list of these. Files and images of Pillow are turned upright as their EXIF data say.
            threshold: Score in [0, 1] that an object of `result.instance` must exceed.
            panoptic_threshold: Smallest score in [0, 1] of a segment of `result.panoptic`; None is that of this
                segmenter.
            batch_size: Most images that go through the network together. Only images of equal padded size do, so that
                no result depends on it.

        Returns:
            A `Result`; for a list, a list of them. Each holds the output of the network: for many images take
            `stream`.

        Raises:
            FileNotFoundError: When a file is missing.
            ValueError: When something is no image, or a threshold is not from 0 to 1.
        """
        is_list = isinstance(images, list | tuple) or getattr(images, "ndim", 3) == 4
        if isinstance(images, str | os.PathLike) and os.path.isdir(images):
            raise ValueError(f"{os.fspath(images)} is a folder: segmenter.stream gives a result for each image.")
        opened: Any = open_images(images, self._reading)
        if isinstance(opened, Iterator):
            raise ValueError("An iterator gives any number of images: take segmenter.stream, or make a list of it.")
        if not is_list and len(opened) != 1:
            raise ValueError(f"{images} matches {len(opened)} files: segmenter.stream gives a result for each of them.")
        results = [*_results(self._predictor(panoptic_threshold), opened, threshold, batch_size=batch_size)]
        return results if is_list else results[0]

    def stream(
        self,
        images: Any,
        *,
        threshold: float = 0.5,
        panoptic_threshold: float | None = None,
        batch_size: int = 1,
        workers: int = 0,
        on_unreadable: Report | None = None,
    ) -> Iterator[Result]:
        """Segment images one after the other, in bounded memory, with a progress bar.

        Args:
            images: A folder with all folders in it, a pattern such as `photos/*.jpg`, a list of what a call takes, or
                an iterator of it, which is asked for the next image when there is room for it.
            threshold: As in a call.
            panoptic_threshold: As in a call.
            batch_size: As in a call; only neighbours go through the network together.
            workers: Processes that load images; 0 loads in this one.
            on_unreadable: Is told of images that cannot be read, which are then left out; None raises.

        Returns:
            A `Result` for each image, in their order.

        Raises:
            FileNotFoundError: When a file is missing.
            ValueError: When something is no image, or a threshold is not from 0 to 1.
        """
        return _results(
            self._predictor(panoptic_threshold),
            open_images(images, self._reading),
            threshold,
            batch_size=batch_size,
            workers=workers,
            on_unreadable=on_unreadable,
            description="segment",
        )

    def predict(
        self,
        images: Any,
        folder: str | os.PathLike[str],
        to: OutputName = "pictures",
        *,
        task: str | None = None,
        threshold: float | None = None,
        panoptic_threshold: float | None = None,
        matching: Matching = "name",
        limit: int | None = None,
        batch_size: int = 1,
        workers: int = 0,
        on_error: OnError = "raise",
        on_image: OnImage | None = None,
        source: str = "",
        run_name: str = "unisegment",
    ) -> dict[str, Any]:
        """Write predictions to files. All processes share the images; stopped, the same call goes on where it was.

        Args:
            images: What `stream` takes, but no iterator; or a data set with annotations, whose category ids the files
                then have.
            folder: For the files, see `unisegment.data.export` and `unisegment.inference.picture_export`.
            to: Format of the files.
            task: What pictures show: "panoptic", "instance" or "semantic"; None is `task` of this segmenter.
            threshold: Score in [0, 1] that an object must exceed; None is 0.5 for pictures, and 0 for other formats,
                which keep the best objects as evaluation wants them.
            panoptic_threshold: As in a call.
            matching: How labels of the checkpoint and of a data set are matched.
            limit: Most images, the first ones; None is all.
            batch_size: As for `stream`.
            workers: As for `stream`.
            on_error: Whether an image that cannot be read ends it, or is left out and named in the summary.
            on_image: Is told of each image when its files are written.
            source: What the images are, in words. A call with another source does not go on in the same folder.
            run_name: Name of the algorithm in the names of files for evaluation servers.

        Returns:
            `images`, how many are finished; `new`, how many of them by this call; `unreadable_images`, what is wrong
            with those left out.

        Raises:
            FileNotFoundError: When a file is missing.
            OtherRunError: When the folder holds something else.
            ValueError: When something is no image, a value makes no sense, or two images have one name.
            WriteError: When a file cannot be written; what is finished stays.
        """
        predictor, opened = self._predictor(panoptic_threshold), images
        if isinstance(images, AnnotatedImages):
            predictor, opened = match_data_set(predictor, images, matching=matching, limit=limit)
        else:
            opened = open_images(images)
            if isinstance(opened, Iterator):
                raise ValueError("An iterator cannot be gone on with: give a list or a folder, or take `stream`.")
            opened = opened if limit is None else opened.first(limit)
        threshold = threshold if threshold is not None else 0.5 if to == "pictures" else 0.0
        return export_predictions(
            predictor,
            opened,
            Path(folder),
            to,
            formats={**EXPORT_FORMATS, "pictures": pictures_of(task or predictor.task)},
            source=source,
            threshold=threshold,
            run_name=run_name,
            batch_size=batch_size,
            workers=workers,
            on_unreadable=reporting(on_error),
            on_image=on_image,
        )

    def evaluate(
        self,
        data: str | os.PathLike[str] | AnnotatedImages,
        *,
        split: str = "val",
        format: str | None = None,
        tasks: tuple[str, ...] | None = None,
        panoptic_threshold: float | None = None,
        matching: Matching = "name",
        limit: int | None = None,
        boundaries: bool = True,
        output: str | os.PathLike[str] | None = None,
        worst: int = 0,
        batch_size: int = 1,
        workers: int = 0,
        on_error: OnError = "raise",
    ) -> dict[str, Any]:
        """Score the model on a data set, at the images' own size. All processes share the images.

        Args:
            data: A folder, an address (`hf://…`), or an opened data set.
            split: Which part of a folder.
            format: What a folder holds; None looks at what is in it.
            tasks: What to score, of "panoptic", "instance" and "semantic"; None is what the format has annotations
                for; of a data set that is opened already, all.
            panoptic_threshold: As in a call.
            matching: How labels of the checkpoint and of the data set are matched.
            limit: Most images, the first ones; None is all.
            boundaries: Score boundaries, too.
            output: Folder for `metrics.json` and pictures of the worst images.
            worst: How many of the worst images are named and drawn.
            batch_size: As for `stream`.
            workers: As for `stream`.
            on_error: Whether an image that cannot be read ends it, or is left out and named in the report.

        Returns:
            The report: `pq`, `sq`, `rq`, `pq_things`, `pq_stuff`, `mask_ap` and `miou` in [0, 1], or None where they
            are not defined, and scores of each class; see `unisegment.inference.report`.

        Raises:
            RecipeError: When the data set cannot be opened, or has no annotations.
            ValueError: When its labels do not fit.
        """
        if not isinstance(data, AnnotatedImages):
            data, settings = open_evaluation_data(None, os.fspath(data), format, split, on_error)
            tasks = tasks or settings.tasks
        predictor, samples = match_data_set(self._predictor(panoptic_threshold), data, matching=matching, limit=limit)
        return evaluate(
            predictor,
            samples,
            tasks=tasks or TASKS,
            boundaries=boundaries,
            worst=worst,
            output=None if output is None else Path(output),
            batch_size=batch_size,
            workers=workers,
            on_unreadable=reporting(on_error),
        )

    @classmethod
    def fit(
        cls,
        data: str | os.PathLike[str],
        *,
        start: str | os.PathLike[str] | None = None,
        epochs: float | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        format: str | None = None,
        **overrides: Any,
    ) -> "Segmenter":
        """Train on a data set, and open the model that comes out. Stopped, the same call goes on where it was.

        Args:
            data: A folder with the splits `train` and `val`, or an address (`hf://…`).
            start: Checkpoint to begin from, as for `from_pretrained`; None trains a small network from scratch.
            epochs: How often each image is seen; None takes what suits the number of images.
            output_dir: Folder of the run; None is `runs/` and the name of the data set.
            format: What a folder holds; None looks at what is in it.
            **overrides: Keys of a recipe: `Segmenter.fit(data, **{"optim.lr": 5e-5, "data.workers": 4})`.

        Raises:
            RecipeError: When the data set cannot be opened, a value makes no sense, or results would be destroyed.
            TrainingInterruptedError: When SIGINT or SIGTERM came; what was learned is saved.
        """
        from unisegment.training import fit_data  # which imports what only training needs

        run = fit_data(data, start=start, epochs=epochs, output_dir=output_dir, format=format, **overrides)
        return cls.from_pretrained(run.folder)

    def push(self, repo_id: str, **options: Any) -> str:
        """Upload the model with its processor and a model card to the Hugging Face Hub, and return the address.

        Of a run, its recipe, scores and a picture go up, too.

        Args:
            repo_id: `user/name`, or `name` alone for your own; made when it is missing.
            **options: Of `unisegment.hub.push`, such as `private=True`.

        Raises:
            PushError: When it could not be uploaded; nothing is lost.
        """
        from unisegment.hub import push  # which imports what only uploading needs

        source = self.predictor.checkpoint
        with nullcontext(source) if os.path.isdir(source) else TemporaryDirectory() as folder:
            if folder != source:
                self.predictor.model.save_pretrained(folder)
                self.predictor.processor.save_pretrained(folder)
            return push(folder, repo_id, **options)

    def _predictor(self, panoptic_threshold: float | None) -> Predictor:
        if panoptic_threshold is None:
            return self.predictor
        return replace(self.predictor, panoptic_threshold=panoptic_threshold)


def _results(predictor: Predictor, images: Any, threshold: float, **options: Any) -> Iterator[Result]:
    indices = None if isinstance(images, Iterator) else range(len(images))
    for batch, outputs in predictor.stream(images, indices, **options):
        yield from results_of(batch, outputs, predictor, threshold)
