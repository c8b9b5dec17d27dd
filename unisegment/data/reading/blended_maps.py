# SPDX-License-Identifier: Apache-2.0
"""Signs that a map of labels was resized or smoothed like a photograph, which makes labels of its own."""

import numpy as np
from jaxtyping import Int32

_FEWEST_BLENDED, _BLENDED_SHARE = 16, 0.25
"""How many border pixels, and which part of them, must hold a number in between."""


def is_blended(id_map: Int32[np.ndarray, "h w"]) -> bool:
    """Tell whether a map looks as if it had been resized or smoothed like a photograph.

    Then the pixels at borders hold numbers between those of both sides, which in a map of labels is rare.
    """
    borders = blended = 0
    for rows in (id_map, id_map.T):
        before, here, after = rows[:-2], rows[1:-1], rows[2:]
        is_border = before != after
        is_between = (here > np.minimum(before, after)) & (here < np.maximum(before, after))
        borders += int(is_border.sum())
        blended += int(is_between.sum())
    return blended >= max(_FEWEST_BLENDED, _BLENDED_SHARE * borders)
