# SPDX-License-Identifier: Apache-2.0
"""A checkpoint and images in; semantic, instance and panoptic predictions at the images' original size out."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from tqdm import tqdm

from unisegment.data.export.categories import categories_of_labels
from unisegment.inference.graphs import GraphedNetwork
from unisegment.inference.images import Batch, Images, Report, Source, load_batches
from unisegment.models.checkpoints import open_checkpoint
from unisegment.models.choices import Dtype
from unisegment.ops.transfers import send
from unisegment.postprocessing.resize import check_share
from unisegment.structures import TASKS, Category, InstancePrediction, PanopticPrediction
from unisegment.types import Size


@dataclass(frozen=True)
class Predictor:
    """Our model with our post-processing. One forward pass of an image serves all three tasks.

    Args:
        model: The bare model, not wrapped for training.
        processor: Prepares images and reads the model's output; it knows which labels are stuff.
        panoptic_threshold: Smallest score of a panoptic segment.
        top_k: Most objects of an image; see `unisegment.postprocessing.instance_predictions`.
        checkpoint: Where the model is from.
        dtype: What was asked for when it was opened.
        network: What is called for the model's output; None is the model. Or else the same, compiled or
            recorded.

    Raises:
        ValueError: When the threshold is not from 0 to 1, or `top_k` less than 1.
    """

    model: Any
    processor: Any
    panoptic_threshold: float = 0.8
    top_k: int = 100
    checkpoint: str = ""
    dtype: Dtype = "auto"
    network: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        check_share("panoptic_threshold", self.panoptic_threshold)
        if self.top_k < 1:
            raise ValueError(f"top_k must be 1 or more, got {self.top_k}.")

    @property
    def id2label(self) -> Mapping[int, str]:
        """Name of each label."""
        return self.model.config.id2label

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return self.model.config.num_labels

    @property
    def categories(self) -> list[Category]:
        """The category of each label, with the id that it has in files."""
        return categories_of_labels(self.id2label, self.stuff_label_ids, self.model.config.categories)

    @property
    def stuff_label_ids(self) -> frozenset[int]:
        """The labels that are stuff."""
        return frozenset(self.processor.stuff_label_ids or ())

    @property
    def thing_label_ids(self) -> frozenset[int]:
        """The labels that are not."""
        return frozenset(range(self.num_labels)) - self.stuff_label_ids

    @property
    def tasks(self) -> tuple[str, ...]:
        """Which results the processor reads from the model's output, of panoptic, instance and semantic."""
        return tuple(task for task in TASKS if self.processor.why_not(task) is None)

    @property
    def task(self) -> str:
        """What the labels are made for: "semantic" without things, "instance" without stuff, otherwise "panoptic".

        Where the processor reads no other results, it is "semantic", too.
        """
        if not self.thing_label_ids or self.tasks == ("semantic",):
            return "semantic"
        return "panoptic" if self.stuff_label_ids else "instance"

    @property
    def scales(self) -> Sequence[float] | None:
        """Relative sizes of test-time augmentation; None is without."""
        return None

    def stream(
        self,
        images: Images | Iterable[Source],
        indices: Sequence[int] | None = None,
        *,
        batch_size: int = 1,
        workers: int = 0,
        timeout: float = 0,
        on_unreadable: Report | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
        description: str = "",
    ) -> Iterator[tuple[Batch, Any]]:
        """Give images in their order, a few at a time, with the model's output for them.

        Args:
            images: A data set; or, without `indices`, an iterable of images, of any length.
            indices: Which images of the data set; where several processes share it, those of this one.
            batch_size: Most images that go through the model together. Only neighbours of equal padded size do, so that
                no result depends on it.
            workers: As in `unisegment.inference.images.load_batches`.
            timeout: As there.
            on_unreadable: As there.
            is_cancelled: Is asked before each batch; True ends the stream.
            description: What the progress bar of the main process says; nothing means that there is none.
        """
        batches = load_batches(
            images,
            self.processor,
            indices,
            batch_size=batch_size,
            workers=workers,
            timeout=timeout,
            on_unreadable=on_unreadable,
        )
        total = None if indices is None else len(indices)
        is_shown = bool(description) and PartialState().is_main_process
        with tqdm(total=total, desc=description, unit="image", leave=False, disable=not is_shown) as bar:
            for batch in batches:
                if is_cancelled():
                    return
                yield batch, self.forward(batch)
                bar.update(len(batch))

    def forward(self, batch: Batch) -> Any:
        """Return the model's output, computed in the dtype of its weights."""
        return _forward(self.model, self.network or self.model, batch)

    def panoptic(self, batch: Batch, outputs: Any) -> list[PanopticPrediction]:
        """Return which segment each pixel belongs to.

        Args:
            batch: Images of equal padded size.
            outputs: What `forward` made of them.
        """
        return self.processor.post_process_panoptic_segmentation(
            outputs, threshold=self.panoptic_threshold, target_sizes=original_sizes(batch)
        )

    def instance(self, batch: Batch, outputs: Any, threshold: float = 0.0) -> list[InstancePrediction]:
        """Return the objects above a score: those that are no stuff among the `top_k` best of all."""
        return self.processor.post_process_instance_segmentation(
            outputs,
            threshold=threshold,
            target_sizes=original_sizes(batch),
            top_k=self.top_k,
            label_ids=self.thing_label_ids,
        )

    def semantic(self, batch: Batch, outputs: Any) -> list[Any]:
        """Return the label of each pixel."""
        return self.processor.post_process_semantic_segmentation(outputs, target_sizes=original_sizes(batch))


def original_sizes(batch: Batch) -> list[Size]:
    """Return height and width of each image as it was before it was prepared."""
    return [item.image.size for item in batch]


def _forward(model: Any, network: Callable[..., Any], batch: Batch) -> Any:
    was_training = model.training
    model.eval()
    with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
        outputs = network(
            pixel_values=send(torch.cat([item.pixel_values for item in batch]), model.device),
            pixel_mask=send(torch.cat([item.pixel_mask for item in batch]), model.device),
        )
    model.train(was_training)
    return outputs


def open_predictor(
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
) -> Predictor:
    """Open a checkpoint of any code base.

    Args:
        checkpoint: Ours, a stock one of transformers, a file of the original code, or the folder of a finished run.
        device: Where to compute. None takes the device of this process where several run, else a GPU, else the CPU.
        dtype: What the network computes in, such as "bfloat16" or torch.bfloat16; what its logits become is computed in
            float32.
        compile: Let torch.compile make the forward pass faster, see `unisegment.inference.compiling`. The first image
            takes minutes; results are the same up to rounding.
        decoder_layers: Leave out the last layers of the transformer decoder; counts as in the config, with the
            prediction of the learned queries. None takes all layers of the checkpoint.
        size: The processor's `size`; None takes that of the checkpoint.
        panoptic_threshold: Smallest score of a panoptic segment.
        top_k: Most objects of an image. Above 100, COCO's rules evaluate as many of an image and category.
        augment: Make semantic results from several sizes of each image, mirrored and not.

    Raises:
        FileNotFoundError: When there is no such checkpoint.
        ValueError: When the checkpoint cannot be read or has fewer decoder layers, the threshold is not from 0 to 1,
            `top_k` is less than 1, or there is no such `dtype` or `device`.
    """
    from unisegment.inference.augmentation import AugmentedPredictor  # which is one of these

    name: Any = str(dtype).removeprefix("torch.")
    if name not in get_args(Dtype):
        raise ValueError(f"dtype must be one of {', '.join(get_args(Dtype))}, got {dtype!r}.")
    check_share("panoptic_threshold", panoptic_threshold)
    place = _device(device)
    asked = {} if name == "auto" else {"dtype": getattr(torch, name)}
    asked |= {} if decoder_layers is None else {"decoder_layers": decoder_layers}
    model, processor = open_checkpoint(checkpoint, {} if size is None else {"size": size}, **asked)
    model.eval().to(place)
    network: Callable[..., Any] | None = None
    if compile:
        from unisegment.inference.compiling import CompiledNetwork  # torch's compiler: seconds

        network = CompiledNetwork(model)
    elif place.type == "cuda":
        network = GraphedNetwork(model)
    kind = AugmentedPredictor if augment else Predictor
    return kind(model, processor, panoptic_threshold, top_k, model.name_or_path, name, network)


def _device(asked: str | torch.device | None) -> torch.device:
    """Return a device that there is."""
    if asked is None:
        # Launchers of processes on CPUs say so in this variable, and these find each other only when told.
        on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
        return PartialState(cpu=on_cpu).device
    try:
        device = torch.device(asked)
        torch.empty(1, device=device).cpu()  # one that computes
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={str(asked)!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device
