# SPDX-License-Identifier: Apache-2.0
"""The labels of all images in, how often an epoch shows each of them out: images of rare classes come more often.

Source:
    LVIS (arXiv 1908.03195), repeat factor sampling.
"""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object
from jaxtyping import Float64
from tqdm import tqdm

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.runs.data_opening import data_named
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.processes import share_of_process
from unisegment.training.state_files import Repeats, read_repeats


def repeat_factors(labels: Sequence[Collection[int]], threshold: float) -> Float64[np.ndarray, " n"]:
    """Return how often an epoch shows each image, on average: at least once.

    A class that a share f of the images has asks for max(1, sqrt(threshold / f)), and an image for what its rarest
    class asks for.

    Args:
        labels: The different labels in each image.
        threshold: Share of the images, in [0, 1], below which a class is rare.
    """
    num_images = Counter(label for found in labels for label in found)
    factors = {label: max(1.0, math.sqrt(threshold * len(labels) / number)) for label, number in num_images.items()}
    return np.array([max((factors[label] for label in found), default=1.0) for found in labels])


def find_repeats(data: DataRecipe, samples: AnnotatedImages, state: Path | None) -> Repeats | None:
    """Return how often an epoch shows each training image; None where each comes once.

    Args:
        data: Says from when on a class is rare.
        samples: The images.
        state: What training goes on from, which knows it, so that no image has to be looked at.

    Raises:
        RecipeError: When an image cannot be read and `data.on_error` is `raise`, or the state is damaged.
    """
    if data.repeat_threshold == 0:
        return None
    saved = read_repeats(state)
    if saved is not None and saved.threshold == data.repeat_threshold and len(saved.factors) == len(samples):
        return saved
    with data_named(data):
        labels = all_labels(samples, data.most_skipped > 0)
    return Repeats(data.repeat_threshold, repeat_factors(labels, data.repeat_threshold))


def describe_repeats(repeats: Repeats) -> str:
    """Say how often an epoch shows the images, in a line."""
    factors = repeats.factors
    return (
        f"data.repeat_threshold={repeats.threshold}: {np.count_nonzero(factors > 1):,} of {len(factors):,} images have "
        f"a rare class and come up to {factors.max():.3g} times in an epoch, which has {factors.sum():,.0f} images."
    )


def all_labels(samples: AnnotatedImages, may_be_unreadable: bool) -> list[set[int]]:
    """Return the labels of which each image has a segment that is no crowd; every process looks at its share of them.

    Args:
        samples: The images, which are looked at in their order.
        may_be_unreadable: Whether an image that cannot be read has no labels.

    Raises:
        OSError: When an image cannot be read, and may not be so.
        ValueError: As well.
    """
    found: list[set[int]] = []
    places = share_of_process(range(len(samples)))
    for index in tqdm(places, "labels", unit="image", delay=1, disable=not PartialState().is_main_process):
        try:
            found.append(samples.labels_in(index))
        except (ValueError, OSError):
            if not may_be_unreadable:
                raise
            found.append(set())
    return gather_object(found)
