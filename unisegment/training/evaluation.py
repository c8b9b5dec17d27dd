# SPDX-License-Identifier: Apache-2.0
"""A model in training in, the few scores that its log shows and pictures of its predictions out."""

import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from PIL import Image

from unisegment.inference.evaluation import TASKS, EvaluationCancelledError
from unisegment.inference.evaluation import evaluate as evaluate_all
from unisegment.inference.images import Report, Samples
from unisegment.inference.pictures import draw_images
from unisegment.inference.predictor import Predictor
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation

__all__ = ["EvaluationCancelledError", "draw_predictions", "evaluate"]


def evaluate(
    model: UniSegmentForUniversalSegmentation,
    processor: UniSegmentImageProcessor,
    samples: Samples,
    *,
    panoptic_threshold: float = 0.8,
    top_k: int = 100,
    batch_size: int = 1,
    workers: int = 0,
    timeout: float = 0,
    is_cancelled: Callable[[], bool] = lambda: False,
    on_unreadable: Report | None = None,
) -> dict[str, Any]:
    """Judge a model in float32; all processes share the images, and all get the scores.

    Args:
        model: The bare model, not wrapped for training.
        processor: Prepares images and reads the model's output; it knows which labels are stuff.
        samples: Annotated images.
        panoptic_threshold: Smallest score of a panoptic segment.
        top_k: Most objects of an image.
        batch_size: As in `unisegment.inference.evaluate`, which has all scores.
        workers: As there.
        timeout: As there.
        is_cancelled: As there.
        on_unreadable: As there.

    Returns:
        `pq`, `sq`, `rq`, `pq_things`, `pq_stuff`, `mask_ap` (of the things) and `miou`, in [0, 1] or None where there
        is nothing to judge, and the number of `images` judged. Where segments of an image overlap, as in COCO's
        instances, only `mask_ap` is defined.

    Raises:
        EvaluationCancelledError: When it was cancelled.
    """
    report = evaluate_all(
        Predictor(model, processor, panoptic_threshold, top_k),
        samples,
        batch_size=batch_size,
        workers=workers,
        timeout=timeout,
        is_cancelled=is_cancelled,
        on_unreadable=on_unreadable,
    )
    panoptic, semantic = report["panoptic"], report["semantic"]
    nothing = {"pq": math.nan, "sq": math.nan, "rq": math.nan}
    whole, things, stuff = (panoptic[part] if panoptic else nothing for part in ("all", "things", "stuff"))
    scores = {
        "pq": whole["pq"],
        "sq": whole["sq"],
        "rq": whole["rq"],
        "pq_things": things["pq"],
        "pq_stuff": stuff["pq"],
        "mask_ap": report["instance"]["ap"],
        "miou": semantic["miou"] if semantic else math.nan,
    }
    # JSON has no NaN.
    finite = {name: None if math.isnan(score) else score for name, score in scores.items()}
    return finite | {"images": report["images"]}


def draw_predictions(
    model: UniSegmentForUniversalSegmentation,
    processor: UniSegmentImageProcessor,
    samples: Samples,
    *,
    num_pictures: int,
    tasks: Collection[str] = TASKS,
    panoptic_threshold: float = 0.8,
    top_k: int = 100,
    on_unreadable: Report | None = None,
) -> dict[str, Image.Image]:
    """Draw what a model sees in some of the images, and what is there.

    The images are spread evenly over all of them.

    Args:
        model: As in `evaluate`.
        processor: As in `evaluate`.
        samples: As in `evaluate`.
        num_pictures: How many are drawn.
        tasks: Which predictions are shown, see `unisegment.inference.pictures.draw_images`.
        panoptic_threshold: As in `evaluate`.
        top_k: As in `evaluate`.
        on_unreadable: As in `evaluate`.

    Returns:
        Pictures by the names of their files.
    """
    places = np.linspace(0, len(samples) - 1, min(num_pictures, len(samples))).round().astype(int).tolist()
    predictor = Predictor(model, processor, panoptic_threshold, top_k)
    return dict(draw_images(predictor, samples, places, tasks=tasks, on_unreadable=on_unreadable))
