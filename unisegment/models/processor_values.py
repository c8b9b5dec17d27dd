# SPDX-License-Identifier: Apache-2.0
"""What each keyword of an image processor may be, whether it comes from a file, the constructor or a call."""

from collections.abc import Collection, Mapping

from unisegment.models.config_values import NAMES_OF_LABELS
from unisegment.ops.limits import MAX_CHANNELS, MAX_DIVISOR, MAX_FRAME, MAX_LABELS
from unisegment.ops.value_kinds import (
    FLAG,
    NOTHING,
    Kind,
    list_of,
    number,
    one_of,
    whole,
)

_FLAG = FLAG | whole(0, 1) | NOTHING
_MEAN, _STD = number(-1e6, 1e6), number(0, 1e6, above=True)
_LABEL = whole(0, MAX_LABELS)
_DIVISOR = whole(0, MAX_DIVISOR) | NOTHING

KINDS: Mapping[str, Kind] = {
    "do_resize": _FLAG,
    "size_divisor": _DIVISOR,
    "size_divisibility": _DIVISOR,
    "resample": whole(0, 5),
    "do_rescale": _FLAG,
    "rescale_factor": number(0, 1e6, above=True),
    "do_normalize": _FLAG,
    "image_mean": _MEAN | list_of(_MEAN, 3, MAX_CHANNELS) | NOTHING,
    "image_std": _STD | list_of(_STD, 3, MAX_CHANNELS) | NOTHING,
    "ignore_index": whole(-(2**31), 2**31) | NOTHING,
    "do_reduce_labels": _FLAG,
    "reduce_labels": _FLAG,
    "num_labels": _LABEL | NOTHING,
    "range": one_of("dtype", "percentile") | list_of(number(-1e30, 1e30), 2, 2),
    "max_size": whole(0, MAX_FRAME) | NOTHING,
    "stuff_label_ids": Kind(
        f"a list of labels, each {_LABEL.expected}",
        lambda labels: (
            isinstance(labels, Collection)
            and not isinstance(labels, str | Mapping)
            and len(labels) <= MAX_LABELS
            and all(map(_LABEL.fits, labels))
        ),
    )
    | NOTHING,
    "id2label": NAMES_OF_LABELS | NOTHING,
}
"""By keyword; `size` and `pad_size` are checked where they are read, see `size_keys`."""
