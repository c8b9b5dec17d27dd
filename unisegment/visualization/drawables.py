# SPDX-License-Identifier: Apache-2.0
"""Images and predictions of many kinds in, upright images of Pillow and segments with their names out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unisegment.ops.image_opening import open_image
from unisegment.ops.orientation import upright
from unisegment.ops.value_range import has_more_bits, to_uint8
from unisegment.structures import InstancePrediction, PanopticPrediction, SegmentationTarget, SemanticPrediction
from unisegment.visualization.colors import short_name

Drawable: TypeAlias = (
    SemanticPrediction | InstancePrediction | PanopticPrediction | SegmentationTarget | Mapping[str, Any] | Tensor
)
"""What can be drawn on an image. Mappings and tensors are results of transformers: `segmentation`, a map of ids or
binary maps, with `segments_info`; or the label of each pixel, below 0 where there is none; or masks, as bool."""

Picture: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor
"""A file, Pillow's image, an array (h, w, 3) of uint8, or a tensor (3, h, w) of uint8 or of floats in [0, 1]. Of more
than 8 bits, the 0.5th to the 99.5th percentile are shown."""


@dataclass(frozen=True)
class Segments:
    """What is drawn.

    Args:
        target: Where the segments are.
        names: Name of each where it comes with one.
        scores: Score of each where there is one.
        is_rest_void: Whether pixels of no segment are void, rather than the background of objects.
    """

    target: SegmentationTarget
    names: Sequence[str | None]
    scores: Sequence[float | None]
    is_rest_void: bool = True

    def select(self, labels: Collection[int]) -> "Segments":
        """Return the segments of some labels; the pixels of the others become void."""
        keep = [label in labels for label in self.target.labels.tolist()]
        target = self.target.select(torch.tensor(keep, dtype=torch.bool))
        return replace(
            self, target=target, names=list(compress(self.names, keep)), scores=list(compress(self.scores, keep))
        )

    def labels_and_names(self, id2label: Mapping[int, str] | None) -> list[tuple[int, str]]:
        """Return label and short name of each segment: by `id2label`, else as it comes, else the number."""
        labels, known = self.target.labels.tolist(), id2label or {}
        names = [str(known.get(label) or own or label) for label, own in zip(labels, self.names, strict=True)]
        # A name is one line, and never empty.
        shown = (" ".join(short_name(name).split()) for name in names)
        return [(label, name or str(label)) for label, name in zip(labels, shown, strict=True)]


def open_picture(image: Picture) -> Image.Image:
    """Return an image upright, in red, green and blue.

    Raises:
        ValueError: When it is none.
        OSError: When the file cannot be opened.
    """
    if isinstance(image, str | Path):
        with Path(image).expanduser().open("rb") as file:
            image = open_image(file, str(image))
    if isinstance(image, Image.Image):
        return _in_colors(upright(image))
    if isinstance(image, Tensor):
        image = _tensor_to_array(image)
    is_array = isinstance(image, np.ndarray)
    if not is_array or image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        got = f"shape {image.shape} of {image.dtype} (channels last)" if is_array else str(type(image))
        raise ValueError(
            f"image must be (height, width, 3) of uint8 as an array, (3, height, width) as a tensor, an image of "
            f"Pillow or a file; got {got}."
        )
    return Image.fromarray(np.ascontiguousarray(image))


def _in_colors(image: Image.Image) -> Image.Image:
    if has_more_bits(image):
        # Pillow would make all above 255 white, which most of 16 bits is.
        image = Image.fromarray(to_uint8(np.asarray(image), "percentile"))
    return image.convert("RGB")


def _tensor_to_array(image: Tensor) -> np.ndarray:
    if image.is_floating_point():
        if image.numel() and not 0 <= image.min() <= image.max() <= 1:
            raise ValueError(
                f"image as a tensor of floats must be in [0, 1], got {image.min():.2f} to {image.max():.2f}: "
                "give the image as it was before normalisation."
            )
        image = (image * 255).round().to(torch.uint8)
    return image.movedim(0, -1).cpu().numpy()


def segments_of(prediction: Drawable, with_hidden: bool = False) -> Segments:
    """Return the segments of a prediction, a target or a result of transformers.

    Args:
        prediction: What was found or annotated.
        with_hidden: Whether objects are as large as their masks, or only as what no better one hides.

    Raises:
        ValueError: When it is none of them.
    """
    if isinstance(prediction, SegmentationTarget):
        nothing = [None] * len(prediction)
        return Segments(prediction.to("cpu"), nothing, nothing)
    if isinstance(prediction, Tensor) and not isinstance(prediction, SemanticPrediction):
        prediction = _as_result(prediction)
    if not isinstance(prediction, Mapping | SemanticPrediction) or "segmentation" not in prediction:
        raise ValueError(
            "prediction must be one of unisegment's predictions or targets, or a result of transformers, with "
            f"`segmentation` and `segments_info`; got {type(prediction)}."
        )
    segmentation = prediction["masks" if with_hidden and "masks" in prediction else "segmentation"]
    if not isinstance(segmentation, Tensor) or segmentation.ndim not in (2, 3):
        raise ValueError(
            "segmentation must be a map (height, width) of ids, or one mask (n, height, width) for each segment; got "
            f"{type(segmentation)}. Run lengths are not drawn: ask post-processing for return_binary_maps instead."
        )
    infos = _labels(segmentation) if "segments_info" not in prediction else prediction["segments_info"]
    return _segments(segmentation.cpu(), infos, isinstance(prediction, InstancePrediction) or segmentation.ndim == 3)


def _as_result(map_or_masks: Tensor) -> dict[str, Any]:
    """Return bare tensors as results: binary ones are masks, others the label of each pixel, where it is 0 or more."""
    if map_or_masks.dtype != torch.bool:
        return {"segmentation": map_or_masks}
    masks = map_or_masks if map_or_masks.ndim == 3 else map_or_masks[None]
    return {"segmentation": masks, "segments_info": [{"label_id": label} for label in range(len(masks))]}


def _labels(segmentation: Tensor) -> list[dict[str, Any]]:
    labels = np.unique(segmentation.cpu().numpy()).astype(int)
    return [{"id": label, "label_id": label} for label in labels[labels >= 0].tolist()]


def _segments(segmentation: Tensor, infos: list[dict[str, Any]], is_objects: bool) -> Segments:
    shape: dict[str, Any] = {"masks": segmentation}
    if segmentation.ndim == 2:
        # transformers lists what it fused several times; of an id the last entry counts.
        infos = list({info["id"]: info for info in infos}.values())
        shape = {"id_map": segmentation, "segment_ids": [info["id"] for info in infos]}
    target = SegmentationTarget(labels=[info["label_id"] for info in infos], **shape)  # type: ignore[arg-type]
    names, scores = ([info.get(key) for info in infos] for key in ("label", "score"))
    return Segments(target, names, scores, is_rest_void=not is_objects)
