# SPDX-License-Identifier: Apache-2.0
"""The axis legend: one letter means one thing in every shape of this library.

====== ==========================================================================================
letter meaning
====== ==========================================================================================
b      image of the batch
q      query
k      class; of logits, the last one is "no object"
n      segment of one image (target or prediction)
c      channel
m      attention head
d      channel of one attention head
l      feature level, coarse to fine
p      sampling point
s      pixel of all levels, flattened and concatenated level by level, each row-major
h w    height and width of a grid of pixels; which grid is said where it is not obvious
====== ==========================================================================================

Sizes are (height, width). Boxes are (x0, y0, x1, y1) in pixels. Points are (x, y), normalised to [0, 1] over the
padded image, so that (0, 0) is the outer corner of the first pixel, not its centre.
"""

from typing import TypeAlias

Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels."""

Window: TypeAlias = tuple[slice, slice]
"""Rows and columns of an image."""
