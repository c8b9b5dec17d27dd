# SPDX-License-Identifier: Apache-2.0
"""Small trees as tools export them, rebuilt from their documentation, and what is read of them in short."""

import base64
import io
import json

import numpy as np
from PIL import Image


def write_picture(file, size, value=90, **options):
    """Write an image of a height and width; the format is that of its name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, dtype=np.uint8)).save(file, **options)


def write_texts(root, texts):
    """Write text files by their paths."""
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(text.encode() if isinstance(text, str) else text)


def labelme_file(*shapes, path="a.jpg", size=(20, 30), data=None):
    """Return the text of a file as LabelMe 5 writes it; shapes need their label, points and kind."""
    described = [{"group_id": None, "description": "", "flags": {}, "mask": None, **shape} for shape in shapes]
    content = {"version": "5.5.0", "flags": {}, "shapes": described, "imagePath": path, "imageData": data}
    return json.dumps({**content, "imageHeight": size[0], "imageWidth": size[1]}, indent=2)


def in_base64(array):
    """Return the PNG file of an array, in base64."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def objects_of(sample):
    """Return the label, the box (x0, y0, x1, y1) and the area of each object, in pixels."""
    target = sample.target
    return [
        (label, _box(mask), int(mask.sum()))
        for label, mask in zip(target.labels.tolist(), target.binary_masks().numpy(), strict=True)
    ]


def _box(mask):
    rows, columns = np.nonzero(mask)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
