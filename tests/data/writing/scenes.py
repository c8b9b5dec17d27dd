# SPDX-License-Identifier: Apache-2.0
"""A small data set in memory, its images in files, with everything that formats differ in."""

import json
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.reading.image_reading import read_image
from unisegment.data.reading.object_drawing import draw_objects
from unisegment.data.writing.data_set_writer import WrittenImage
from unisegment.data.writing.image_files import write_image
from unisegment.structures import Category, Sample, SegmentationTarget

CATEGORIES = [
    Category(7, "cow", True, (200, 10, 20)),
    Category(64, "zebra crossing", True, (3, 2, 1)),
    Category(3, "sky", False, (90, 160, 230)),
    Category(300, "gräs", False, (60, 150, 60)),
]
"""Out of order, with gaps, and ids of more than 8 bits."""
SIZES = [(11, 17), (23, 13), (5, 7), (19, 29)]
"""Height and width of each image."""


def mask_of(size, *boxes):
    """Return a mask of boxes (top, left, bottom, right), each of which changes inside and outside."""
    mask = np.zeros(size, np.bool_)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] ^= True
    return mask


def target_of(size, *segments):
    """Return the target of segments that may overlap: label, whether it is a crowd, and mask."""
    return draw_objects([(label, crowd, np.flatnonzero(mask)) for label, crowd, mask in segments], size)


def scenes():
    """Return one target for each image.

    Overlaps, a hole with an island in it, an object in pieces, a crowd, and stuff; 40 objects at random; nothing;
    and segments with ids of 24 bits.
    """
    first, second, third, fourth = SIZES
    random = np.random.default_rng(5)
    boxes = [
        (top, left, top + high, left + wide)
        for top, left, high, wide in zip(*(random.integers(0, length, 40) for length in (*second, 9, 9)), strict=True)
    ]
    id_map = torch.zeros(fourth, dtype=torch.int32)
    id_map[:9], id_map[9:, 3:20], id_map[2:5, 1:4], id_map[10:15, 4:9] = 2**24 - 1, 70_000, 12, 256
    return [
        target_of(
            first,
            (2, False, mask_of(first, (0, 0, 4, 17))),
            (0, False, mask_of(first, (1, 1, 10, 9), (3, 2, 8, 7), (4, 4, 6, 5))),
            (0, False, mask_of(first, (8, 6, 11, 12), (0, 14, 3, 16), (5, 13, 6, 14))),
            (1, True, mask_of(first, (6, 10, 11, 17))),
            (1, False, mask_of(first, (8, 9, 10, 11))),
        ),
        target_of(second, *((place % 2, False, mask_of(second, box)) for place, box in enumerate(boxes))),
        target_of(third),
        SegmentationTarget(labels=[2, 3, 0, 0], id_map=id_map, segment_ids=[2**24 - 1, 70_000, 12, 256]),
    ]


class Scenes(AnnotatedImages):
    """Images in files, with targets in memory."""

    def __init__(self, folder, targets=None, names=("b.jpg", "a.png", "in a folder/c.jpg", "d.jpg"), categories=None):
        super().__init__(list(CATEGORIES) if categories is None else categories)
        self.targets = scenes() if targets is None else targets
        self.paths = [folder / name for name in names]
        for number, (target, path) in enumerate(zip(self.targets, self.paths, strict=True)):
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (*target.size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        path = self.paths[index]
        return Sample(read_image(path, reading=self.reading), 100 + index, str(path), target=self.targets[index])

    def files(self, index):
        return SimpleNamespace(image=self.paths[index])


def segments(target, categories):
    """Return the name of each segment, whether it is a crowd, and its pixels, in no order."""
    return sorted(
        (categories[label].name, crowd, mask.numpy().tobytes())
        for label, crowd, mask in zip(
            target.labels.tolist(), target.is_crowd.tolist(), target.binary_masks(), strict=True
        )
        if mask.any()
    )


def write(writer, images, split="train"):
    """Write all images of a split, and return what could be written of each, and how much could not."""
    parts, fitted, lost = [], [], []
    for sample, path in zip(images, images.paths, strict=True):
        target, missing = writer.fitted(sample.target)
        folder = writer.place(writer.image_folder.format(split=split))
        file = write_image(sample, path, images.reading, folder / path.stem, "copy")
        image = WrittenImage(sample.image_id, path.stem, file.name, sample.size)
        parts.append(json.loads(json.dumps(writer.write(split, image, target))))
        fitted.append(target)
        lost.append(missing)
    writer.finish(split, lambda: iter(parts))
    writer.close([split])
    return fitted, lost
