# SPDX-License-Identifier: Apache-2.0
"""An opened data set in, what is odd about it as a whole out: a look that ends where nothing is odd."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from unisegment.data.annotated_images import AnnotatedImages, may_have_objects
from unisegment.data.choices import OnError

_LOOKED_AT = 16
_WHITE = 255


def read_first(images: AnnotatedImages, on_error: OnError) -> None:
    """Read the first image, before seconds are spent on a model that cannot be trained or evaluated on it.

    Raises:
        FileNotFoundError, ValueError, OSError: With "raise", when it cannot be read; says what the reader says.
    """
    if on_error == "raise" and len(images):
        images[0]


def is_empty(images: AnnotatedImages) -> bool:
    """Tell whether no image has a segment that is no crowd; an image that cannot be read might have one.

    Images are looked at until one has: usually one, and all only if hardly any has.
    """
    return not any(may_have_objects(images, place) for place in _in_any_order(images))


def doubt_two_numbers(images: AnnotatedImages) -> str | None:
    """Say so if the maps hold 0 and 255 alone, 255 is void because nobody says otherwise, and a category is not seen.

    Such maps are usually made for two classes, written in black and white. A few maps are looked at, one in most cases.
    """
    seen: set[int] = set()
    for place in islice(_in_any_order(images), _LOOKED_AT):
        try:
            found = images.numbers(place)
        except (ValueError, OSError):
            continue
        if found is None or not found <= {0, _WHITE}:
            return None
        seen |= found
    unseen = [category for category in images.categories if category.id not in seen]
    if _WHITE not in seen or _WHITE in images.label_of or _WHITE in images.void_ids or not unseen:
        return None
    named = ", ".join(f"{category.name!r} (id {category.id})" for category in unseen[:5])
    return (
        f"the {min(len(images), _LOOKED_AT)} maps looked at hold 0 and 255 alone, and 255 is void: no pixel is "
        f"{named}. If 255 is a class, give it the id 255 (data.categories={{0: background, 255: {unseen[0].name}}}); "
        "if it is void, say so with data.void_ids=[255]."
    )


def _in_any_order(images: AnnotatedImages) -> Iterator[int]:
    """Give all places: mixed, as images without objects often come one behind the other, unless that is slow."""
    if images.block_bounds is not None:
        yield from range(len(images))
    else:
        yield from np.random.default_rng(0).permutation(len(images)).tolist()
