# SPDX-License-Identifier: Apache-2.0
"""One prediction in; a PNG file with its map and a JSON file with its segments out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unisegment.data.export.format import save_png
from unisegment.data.export.label_png import png_pixels
from unisegment.files import write_text
from unisegment.ops.masks import ids_to_rgb
from unisegment.ops.rle import encode_rle
from unisegment.structures import InstancePrediction, Prediction, SemanticPrediction


def save(
    path: str | Path,
    prediction: Prediction,
    id2label: Mapping[int, str] | None = None,
) -> None:
    """Write a prediction to two files that differ in their ending alone.

    * `.png`: of a semantic prediction the label of each pixel, in 8 bits, or in 16 where labels need them, with 255
      (65535 in 16 bits) for void, which `filter` makes; of the others the segment's id as a colour,
      red + 256 green + 65536 blue, and 0 where there is none.
    * `.json`: `segments_info`, with the `label` in words where it is known; of instances, whose masks may overlap, also
      the mask of each as `segmentation`, COCO's run lengths.

    Args:
        path: The PNG file; its folder is made when it is missing.
        prediction: What was found.
        id2label: Name of each label.

    Raises:
        ValueError: When the path does not end in `.png`, or the prediction is none.
        WriteError: When a file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"A prediction is saved as a .png file, with a .json file beside it; got {path}.")
    if not isinstance(prediction, Prediction):
        raise ValueError(f"prediction must be one of unisegment's predictions, got {type(prediction)}.")
    segmentation = prediction.segmentation.cpu().numpy()
    if isinstance(prediction, SemanticPrediction):
        save_png(path, png_pixels(segmentation, segmentation.max()))
    else:
        save_png(path, ids_to_rgb(segmentation))
    infos: list[dict[str, Any]] = [dict(info) for info in prediction.segments_info]
    for info in infos:
        if id2label is not None and info["label_id"] in id2label:
            info["label"] = id2label[info["label_id"]]
    if isinstance(prediction, InstancePrediction):
        for info, rle in zip(infos, encode_rle(prediction.masks), strict=True):
            info["segmentation"] = rle
    text = json.dumps({"segments_info": infos}, indent=2) + "\n"
    write_text(path.with_suffix(".json"), text)
