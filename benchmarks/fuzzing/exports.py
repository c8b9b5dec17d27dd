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
    "yolo_segmentation": ("*.txt", "*.yaml", "labels/*"),
    "labelme": ("*.txt", "*.json"),
    "pascal_voc": ("labelmap.txt", "ImageSets/**/*", "Segmentation*/*"),
    "supervisely": ("meta.json", "train/ann/*"),
    "png_per_object": ("train/*/masks/*",),
}
"""What is damaged of each."""
_SIZE = (24, 32)


def write_exports(folder: Path) -> None:
    """Write all of them into a folder."""
    _write_yolo(folder / "yolo_segmentation")
    _write_labelme(folder / "labelme")
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


def _png(image: Image.Image, **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _write_yolo(root: Path) -> None:
    (root / "labels").mkdir(parents=True)
    for name in ("a", "b"):
        _image(root / f"images/{name}.png")
        (root / f"labels/{name}.txt").write_text("0 0.1 0.1 0.5 0.12 0.5 0.9\n1 0 0 1 0 1 1 0 1\n")
    (root / "data.yaml").write_text("path: .\ntrain: train.txt\nnc: 2\nnames: {0: a, 1: b}\n")
    (root / "train.txt").write_text("images/a.png\nimages/b.png\n")


def _write_labelme(root: Path) -> None:
    _image(root / "a.png")  # that of the other file is in it
    stored = _text((root / "a.png").read_bytes())
    mask = _text(_png(Image.fromarray(_boxes(255, 255)[:6, :10])))
    shapes = [
        {"label": "a", "points": [[1, 1], [9, 2], [9, 11]], "shape_type": "polygon", "group_id": 1},
        {"label": "b", "points": [[3, 4], [8, 9]], "shape_type": "rectangle"},
        {"label": "a", "points": [[20, 9], [25, 9]], "shape_type": "circle", "group_id": 1},
        {"label": "b", "points": [[3, 4], [12, 9]], "shape_type": "mask", "mask": mask},
    ]
    for name, data in (("a", None), ("b", stored)):
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imageData": data}
        size = {"imagePath": f"{name}.png", "imageHeight": _SIZE[0], "imageWidth": _SIZE[1]}
        (root / f"{name}.json").write_text(json.dumps(content | size))
    (root / "labels.txt").write_text("__ignore__\na\nb\n")


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
    mask = Image.fromarray(np.eye(5, dtype=np.uint8))
    mask.putpalette([0, 0, 0, 255, 255, 255])
    bitmap = {"data": _text(zlib.compress(_png(mask, transparency=0))), "origin": [3, 4]}
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
