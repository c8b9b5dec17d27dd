# SPDX-License-Identifier: Apache-2.0
"""A predictor and a data set with labels of its own in; the same with one list of labels for both out."""

import math
from copy import copy
from dataclasses import replace

from unisegment.data.annotated_images import AnnotatedImages, with_range
from unisegment.data.image_sources import check_number
from unisegment.data.label_spaces import MatchedSamples, Matching, match_labels
from unisegment.inference.predictor import Predictor


def match_data_set(
    predictor: Predictor, samples: AnnotatedImages, *, matching: Matching = "name", limit: int | None = None
) -> tuple[Predictor, MatchedSamples]:
    """Return a predictor that takes for stuff what a data set does, and the data set with its labels and range.

    The labels' categories are those of the data set, with its ids. Labels that it lacks keep the checkpoint's category
    ids where these are free.

    Args:
        predictor: Its model is kept; it is not changed itself.
        samples: The data set.
        matching: How labels are matched, see `match_labels`.
        limit: Most images of the data set, the first ones, at least 1; None takes all.

    Raises:
        ValueError: When the labels are not those of the data set, or `limit` is less than 1.
    """
    if limit is not None:
        check_number("limit", limit)
    new_labels = match_labels(predictor.id2label, samples.id2label, matching)
    stuff = {label for label in predictor.stuff_label_ids if label not in new_labels.values()}
    processor = copy(predictor.processor)
    processor.stuff_label_ids = sorted(stuff | {new_labels[label] for label in samples.stuff_label_ids})
    predictor = replace(predictor, processor=processor)
    # Labels that the data set lacks must not be taken for its own.
    categories, taken = predictor.categories, {category.id for category in samples.categories}
    behind = max(taken | {category.id for category in categories}) + 1
    categories = [
        replace(category, id=behind + label) if category.id in taken else category
        for label, category in enumerate(categories)
    ]
    for label, new_label in new_labels.items():
        categories[new_label] = samples.categories[label]
    samples = with_range(samples, processor.reading.range)
    return predictor, MatchedSamples(samples, categories, new_labels, math.inf if limit is None else limit)
