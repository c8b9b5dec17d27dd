# SPDX-License-Identifier: Apache-2.0
"""Images with PNG files for tests, in the layouts of the data sets."""

import numpy as np
import torch
from PIL import Image

from unisegment.structures import SegmentationTarget


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


def in_form(target, form):
    """Return the segments of an id map in another form: `id_map`, `masks`, or `layers`, where they take turns."""
    if form == "id_map":
        return target
    segments = {"labels": target.labels, "is_crowd": target.is_crowd}
    if form == "masks":
        return SegmentationTarget(masks=target.binary_masks(), **segments)
    layers = torch.arange(len(target)) % 2
    void = next(number for number in range(len(target) + 1) if number not in target.segment_ids)
    maps = [
        torch.where(torch.isin(target.id_map, target.segment_ids[layers == layer]), target.id_map, void)
        for layer in (0, 1)
    ]
    return SegmentationTarget(id_map=torch.stack(maps), segment_ids=target.segment_ids, layers=layers, **segments)
