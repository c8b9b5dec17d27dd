# SPDX-License-Identifier: Apache-2.0
"""Images with PNG files for tests, in the layouts of the data sets."""

import numpy as np
from PIL import Image


def write_image(file, size, value=7):
    """Write an image of one colour; the ending decides about the kind of file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, dtype=np.uint8)).save(file)


def write_map(file, rows, dtype=np.uint8):
    """Write a PNG file with one channel, or with three if every item of a row has three."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(rows, dtype=dtype)).save(file)


def segments(target):
    """Return the pixels of each segment, with its label and whether it is a crowd."""
    masks = target.binary_masks().int().tolist()
    return list(zip(target.labels.tolist(), target.is_crowd.tolist(), masks, strict=True))
