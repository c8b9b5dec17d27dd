# SPDX-License-Identifier: Apache-2.0
"""A prediction in; what a user does with it out: numbers, polygons, COCO's dicts, detections for supervision.

Predictions may be in the memory of an accelerator; what is needed of them is brought to the CPU once. All results have
one entry for each segment, in the order of `segments_info`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unisegment.data.export.coco import detections, shapes
from unisegment.ops.column_runs import extents
from unisegment.ops.polygons import Polygon, polygons_of_segments
from unisegment.structures import Category, Prediction

if TYPE_CHECKING:
    from supervision import Detections


def measure(prediction: Prediction) -> list[dict[str, Any]]:
    """Return how large each segment is, and where.

    Returns:
        A dict for each segment:

        * `id`, `label_id`, `label` (the name, or the index as a text) and `score`, as in `segments_info`;
        * `area`: its pixels;
        * `box`: [x0, y0, x1, y1] in pixels, where x1 and y1 lie behind the last pixel, so that x1 - x0 is the width;
        * `centroid`: [x, y], the mean of its pixels; the middle of the first pixel of the image is [0.5, 0.5].

        The segments of an instance prediction may overlap. One without pixels, which post-processing never makes, has
        a box of zeros, and None for its centroid.
    """
    areas, boxes, centroids = extents(prediction.as_target())
    return [
        {
            "id": info["id"],
            "label_id": info["label_id"],
            "label": name_of(info),
            "score": info["score"],
            "area": area,
            "box": box,
            "centroid": centroid if area else None,
        }
        for info, area, box, centroid in zip(
            prediction.segments_info, areas.tolist(), boxes.tolist(), centroids.tolist(), strict=True
        )
    ]


def polygons(prediction: Prediction, tolerance: float = 0.0) -> list[list[Polygon]]:
    """Return the polygons around each segment.

    A polygon is a list of rings: the outer one, clockwise in the picture, then its holes, anticlockwise. A ring is an
    array (p, 2) of corners (x, y) in pixels, and the last one is joined to the first. (0, 0) is the outer corner of the
    first pixel, (width, height) that of the last, so that `shapely.Polygon(rings[0], rings[1:])` has the area of the
    pixels. Pixels that touch at a corner alone belong to two polygons.

    Args:
        prediction: What was found.
        tolerance: How many pixels borders may be moved by to need fewer corners. 0 is exact: the polygons, filled, are
            the mask. 1 makes stairs straight. Each ring is simplified by itself, so that neighbours may then overlap a
            little or leave gaps.

    Raises:
        ValueError: When `tolerance` is below 0.

    Source: Douglas and Peucker, 1973, for the simplification.
    """
    return polygons_of_segments(prediction.as_target(), tolerance)


def to_coco(
    prediction: Prediction, image_id: int | str, categories: Sequence[Category] | None = None
) -> list[dict[str, Any]]:
    """Return the segments as COCO lists them, ready for JSON.

    Args:
        prediction: What was found.
        image_id: Number or name of the image.
        categories: The category of each label; without, `category_id` is the label's index.

    Returns:
        A dict for each segment: `image_id`, `category_id`, `segmentation` (run lengths as a text), `score`, as in the
        files of the export `coco_instance`; and `bbox` (x, y, width, height), `area` and `iscrowd` (0), as in
        annotations. Where results have `bbox`, pycocotools' `loadRes` takes the area of the box for that of the mask:
        remove it to evaluate masks by size.
    """
    target = prediction.as_target()
    found = detections(image_id, prediction.segments_info, target, categories)
    return [entry | shape for entry, shape in zip(found, shapes(target), strict=True)]


def to_supervision(prediction: Prediction) -> "Detections":
    """Return the segments as detections of the package supervision, which draws, counts and tracks them.

    Returns:
        `xyxy` (boxes as in `measure`), `mask` (n h w, bool), `confidence`, `class_id` (the label's index), and
        `data["class_name"]`.

    Raises:
        ImportError: When supervision is not installed.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise ImportError("to_supervision needs the package supervision: pip install supervision") from error
    target, infos = prediction.as_target(), prediction.segments_info
    return Detections(
        xyxy=extents(target).boxes.astype(np.float32),
        mask=target.binary_masks().numpy(),
        confidence=np.array([info["score"] for info in infos], dtype=np.float32),
        class_id=target.labels.numpy(),
        data={"class_name": np.array([name_of(info) for info in infos], dtype=np.str_)},
    )


def name_of(info: dict[str, Any]) -> str:
    """Return the name of a segment's label, or its index as a text."""
    return info.get("label", str(info["label_id"]))
