# SPDX-License-Identifier: Apache-2.0
"""Images in, a note out where one that is annotated has more objects than predictions may have."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from unisegment.inference.images import Batch
from unisegment.inference.predictor import Predictor
from unisegment.structures import Sample


@dataclass(frozen=True, order=True)
class MostObjects:
    """The annotated image with the most objects.

    Args:
        number: How many it has.
        file_name: Which it is.
    """

    number: int = 0
    file_name: str = ""

    def joined(self, batch: Batch, thing_label_ids: Collection[int]) -> "MostObjects":
        """Return what it is of these images, too; stuff and crowds do not count."""
        samples = (item.image for item in batch if isinstance(item.image, Sample))
        others = (MostObjects(_num_objects(sample, thing_label_ids), sample.file_name) for sample in samples)
        return max([self, *others])

    def note(self, predictor: Predictor) -> None:
        """Log, once for an image, that it has more objects than a predictor looks for, or can find."""
        if self.number > predictor.top_k:
            num_queries = getattr(predictor.model.config, "num_queries", self.number)  # not all families have some
            few = f", and {num_queries} queries to find them" if num_queries < self.number else ""
            _warn_once(
                f"{self.file_name} has {self.number} objects, but predictions have the {predictor.top_k} best of an "
                f"image (--top-k; evaluation.top_k in a recipe){few}."
            )


def _num_objects(sample: Sample, thing_label_ids: Collection[int]) -> int:
    pairs = zip(sample.target.labels.tolist(), sample.target.is_crowd.tolist(), strict=True)
    return sum(label in thing_label_ids and not is_crowd for label, is_crowd in pairs)


@cache
def _warn_once(message: str) -> None:
    logging.getLogger(__name__).warning(message)
