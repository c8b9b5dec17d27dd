# SPDX-License-Identifier: Apache-2.0
"""Small data sets as tools export them, each in a folder that is called as its format."""

import base64
import io
import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

DAMAGED = {
    "pascal_voc": ("labelmap.txt", "ImageSets/**/*", "Segmentation*/*"),
    "supervisely": ("meta.json", "train/ann/*"),
    "png_per_object": ("train/*/masks/*",),
}
"""What is damaged of each."""
_SIZE = (24, 32)


def write_exports(folder: Path) -> None:
    """Write all of them into a folder."""
    _write_pascal_voc(folder / "pascal_voc")
    _write_supervisely(folder / "supervisely")
    _write_png_per_object(folder / "png_per_object")


def _save(file: Path, numbers: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbers).save(file)


def _image(file: Path) -> None:
    _save(file, np.full((*_SIZE, 3), 99, dtype=np.uint8))


def _boxes(first: int, second: int) -> np.ndarray:
    numbers = np.zeros(_SIZE, dtype=np.uint8)
    numbers[3:9, 4:20] = first
    numbers[12:20, 2:9] = second
    return numbers


def _write_pascal_voc(root: Path) -> None:
    colors = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], dtype=np.uint8)
    for name in ("a", "b"):
        _image(root / f"JPEGImages/{name}.png")
        for part in ("Class", "Object"):
            numbers = _boxes(1, 2)
            _save(root / f"Segmentation{part}/{name}.png", numbers if name == "a" else colors[numbers])
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text('a\n"b"\n')
    (root / "labelmap.txt").write_text("# name:color:parts:actions\nbackground:0,0,0::\nc1:128,0,0::\nc2:0,128,0::\n")


def _write_supervisely(root: Path) -> None:
    _image(root / "train/img/a.png")
    stored, mask = io.BytesIO(), Image.fromarray(np.eye(5, dtype=np.uint8))
    mask.putpalette([0, 0, 0, 255, 255, 255])
    mask.save(stored, "PNG", transparency=0)
    bitmap = {"data": base64.b64encode(zlib.compress(stored.getvalue())).decode(), "origin": [3, 4]}
    ring = {"exterior": [[1, 1], [9, 2], [9.5, 11]], "interior": [[[4, 4], [6, 4], [6, 6]]]}
    figures = [
        {"geometryType": "bitmap", "bitmap": bitmap},
        {"geometryType": "polygon", "points": ring},
        {"geometryType": "rectangle", "points": {"exterior": [[3, 4], [9, 9]], "interior": []}},
        {"geometryType": "multipolygon", "parts": [ring, ring]},
        {"geometryType": "point", "points": {"exterior": [[3, 4]], "interior": []}},
    ]
    content = {"size": {"height": 24, "width": 32}, "objects": [{"classTitle": "c1", **figure} for figure in figures]}
    (root / "train/ann").mkdir()
    (root / "train/ann/a.png.json").write_text(json.dumps(content))
    classes = [{"title": f"c{number}", "shape": "any", "color": "#0A0B0C"} for number in (1, 2)]
    (root / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))


def _write_png_per_object(root: Path) -> None:
    _image(root / "train/a/images/a.png")
    for number, boxes in enumerate((_boxes(255, 0), _boxes(0, 1))):
        _save(root / f"train/a/masks/{number}.png", boxes)
