# SPDX-License-Identifier: Apache-2.0
"""An opened data set in, what is odd about it as a whole out: a look that ends where nothing is odd."""

from collections.abc import Iterator

import numpy as np

from unisegment.data.annotated_images import AnnotatedImages, may_have_objects


def is_empty(images: AnnotatedImages) -> bool:
    """Tell whether no image has a segment that is no crowd; an image that cannot be read might have one.

    Images are looked at until one has: usually one, and all only if hardly any has.
    """
    return not any(may_have_objects(images, place) for place in _in_any_order(images))


def _in_any_order(images: AnnotatedImages) -> Iterator[int]:
    """Give all places: mixed, as images without objects often come one behind the other, unless that is slow."""
    if images.block_bounds is not None:
        yield from range(len(images))
    else:
        yield from np.random.default_rng(0).permutation(len(images)).tolist()
