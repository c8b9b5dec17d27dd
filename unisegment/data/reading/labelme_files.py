# SPDX-License-Identifier: Apache-2.0
"""A JSON file of LabelMe in; the objects in it, and the pixels of each, out.

Source:
    https://github.com/wkentaro/labelme: `labelme/_label_file.py` for what files hold, `labelme/utils/shape.py` for
    shapes, `examples/instance_segmentation/labelme2coco.py` for groups. Kinds of shapes that X-AnyLabeling adds:
    https://github.com/CVHub520/X-AnyLabeling, the user guide.
"""

import base64
import math
from array import array
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from PIL import Image

from unisegment.data.problems import Box, Problem
from unisegment.data.reading.encoded_masks import read_encoded_mask
from unisegment.data.reading.packed_shapes import PackedShapes, check_polygon
from unisegment.ops.image_opening import open_image
from unisegment.ops.json_reading import read_json
from unisegment.ops.json_values import INT32, read_id, read_text, read_whole_number, shown, value_of
from unisegment.types import Size

VOID_LABELS = ("__ignore__", "_background_")
"""Labels of shapes that are no objects."""

_POLYGONS = ("polygon", "oriented_rectangle", "rotation", "quadrilateral")
_WITHOUT_AREA = ("point", "points", "line", "linestrip")
_NUM_POINTS = {"rectangle": (2, 4), "circle": (2,), "mask": (2,)}
_KINDS = (*_POLYGONS, *_NUM_POINTS, *_WITHOUT_AREA)
_HUGE = 2**31
"""Pixels that no picture has."""
_CIRCLE_ERROR = 0.1
"""Pixels by which the polygon that a circle is drawn as is inside of it at most."""


class LabelmeShape(NamedTuple):
    """A shape as a file has it.

    Args:
        place: Its place in the list.
        label: Its label.
        kind: One of LabelMe's kinds of shapes.
        points: x and y of its points, in pixels: corners; two opposite corners of a rectangle or mask; centre and a
            point on the border of a circle.
        group_id: What shapes that are one object have in common; None for one that is an object by itself.
        mask: PNG file of a mask in base64.
    """

    place: int
    label: str
    kind: str
    points: Float64[np.ndarray, "p 2"]
    group_id: int | str | None
    mask: str | None

    @property
    def missing(self) -> tuple[str, str] | None:
        """Why it has no area: the kind of problem, and the detail. None if it has one."""
        if self.kind in _WITHOUT_AREA:
            return "empty-annotation", f"a {self.kind} has no area; it is left out."
        if self.kind in _POLYGONS and len(self.points) < 3:
            return "degenerate-polygon", "a polygon has fewer than three points; it is left out."
        return None

    @property
    def box(self) -> Box | None:
        """What is around it, in pixels; None if it has no points, or some that are no sensible numbers."""
        points = self.points
        if self.kind == "circle":
            radius = math.hypot(*(points[1] - points[0]))
            points = np.stack([points[0] - radius, points[0] + radius])
        if len(points) == 0 or not (np.abs(points) < _HUGE).all():
            return None
        (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        return (x0, y0, x1, y1)


class LabelmeFile(NamedTuple):
    """What a file holds.

    Args:
        file: The file.
        image_path: Path of the image, with `/` between folders, relative to the file or as it was elsewhere.
        size: Height and width of the image; None where the file does not say.
        image_data: The image in base64, if it is in the file.
        shapes: All shapes.
    """

    file: Path
    image_path: str
    size: Size | None
    image_data: str | None
    shapes: list[LabelmeShape]

    def objects(self) -> list[list[LabelmeShape]]:
        """Return the shapes of each object that has an area, in the order of the file."""
        objects: dict[Any, list[LabelmeShape]] = {}
        for shape in self.shapes:
            if shape.label not in VOID_LABELS and shape.missing is None:
                alone = shape.group_id is None
                objects.setdefault(shape.place if alone else (shape.label, shape.group_id), []).append(shape)
        return list(objects.values())

    def pixels(self, shapes: Sequence[LabelmeShape], size: Size) -> Int64[np.ndarray, " p"]:
        """Return the pixels of an object, each once, as places in the image read row by row.

        Args:
            shapes: Its shapes; what of them is outside of the image is cut off.
            size: Height and width of the image.

        Raises:
            DataError: When a shape cannot be drawn.
        """
        drawn = []
        for shape in shapes:
            try:
                drawn.append(_mask_pixels(shape, size) if shape.kind == "mask" else _outline_pixels(shape, size))
            except ValueError as error:
                kind = "bad-bitmap" if shape.kind == "mask" else "bad-polygon"
                detail = f"{name_of(shape)}: {error}"
                raise Problem(kind, str(self.file), detail, box=shape.box).error() from error
        return drawn[0] if len(drawn) == 1 else np.unique(np.concatenate(drawn))

    def image(self) -> Image.Image:
        """Return the image in the file, as it is stored.

        Raises:
            DataError: When it cannot be read.
        """
        try:
            return open_image(BytesIO(base64.b64decode(self.image_data or "")), "it")
        except ValueError as error:
            raise Problem("broken-image", str(self.file), f"imageData: {error}").error() from error


def read_labelme(file: Path) -> LabelmeFile:
    """Read a file; shapes are looked at, but not drawn.

    Raises:
        DataError: When it is no JSON, or not in the format; says which shape.
    """
    try:
        content = read_json(file, "it")
    except FileNotFoundError as error:
        raise Problem("no-data", str(file), "there is no such file.").error() from error
    except OSError as error:
        raise Problem("unreadable-file", str(file), f"it cannot be read: {error}.").error() from error
    except ValueError as error:
        raise Problem("broken-json", str(file), f"{error}: correct it, or fetch it again.").error() from error
    try:
        shapes = value_of(content, "shapes")
        if not isinstance(shapes, list):
            raise ValueError(f"shapes must be a list, got {shown(shapes)}")
        image_data = value_of(content, "imageData", None)
        if not isinstance(image_data, str | None):
            raise ValueError(f"imageData must be a text in base64, or null, got {shown(image_data)}")
        path = read_text(content, "imagePath").replace("\\", "/")
        return LabelmeFile(file, path, _size(content), image_data, [_shape(*item) for item in enumerate(shapes)])
    except ValueError as error:
        raise Problem("wrong-structure", str(file), f"it is not in LabelMe's format: {error}.").error() from error


def name_of(shape: LabelmeShape) -> str:
    """Return what messages call a shape."""
    return f"shapes[{shape.place}] ({shown(shape.label)})"


def _shape(place: int, entry: Any) -> LabelmeShape:
    try:
        kind = value_of(entry, "shape_type", None) or "polygon"
        if kind not in _KINDS:
            raise ValueError(f"shape_type must be one of {', '.join(_KINDS)}, got {shown(kind)}")
        group_id = None if value_of(entry, "group_id", None) is None else read_id(entry, "group_id")
        points, mask = _points(value_of(entry, "points")), value_of(entry, "mask", None)
        if len(points) not in _NUM_POINTS.get(kind, (len(points),)):
            raise ValueError(f"a {kind} must have two points, got {len(points)}")
        if kind == "mask" and not isinstance(mask, str):
            raise ValueError(f"mask must be a PNG file in base64, got {shown(mask)}")
        return LabelmeShape(place, read_text(entry, "label"), kind, points, group_id, mask)
    except ValueError as error:
        raise ValueError(f"shapes[{place}]: {error}") from error


def _points(points: Any) -> Float64[np.ndarray, "p 2"]:
    try:
        numbers = array("d", (number for x, y in points for number in (x, y)))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"points must be a list of numbers [[x, y], …], got {shown(points)}") from error
    return np.array(numbers).reshape(-1, 2)


def _size(content: Mapping[str, Any]) -> Size | None:
    if value_of(content, "imageHeight", None) is None or value_of(content, "imageWidth", None) is None:
        return None
    height, width = (read_whole_number(content, key, 1, INT32[1]) for key in ("imageHeight", "imageWidth"))
    return height, width


def _outline_pixels(shape: LabelmeShape, size: Size) -> Int64[np.ndarray, " p"]:
    points = shape.points
    if shape.kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    elif shape.kind == "circle":
        points = _circle(points, size)
    shapes = PackedShapes()
    shapes.append([points.ravel().tolist()])
    return shapes.pixels(0, size)


def _circle(points: Float64[np.ndarray, "p 2"], size: Size) -> Float64[np.ndarray, "q 2"]:
    center = points[0]
    radius = math.hypot(*(points[1] - center))
    check_polygon(np.concatenate([center - radius, center + radius]), size)
    if radius < _CIRCLE_ERROR:
        return points
    # The middle of an edge is by radius * (1 - cos(angle / 2)) inside of the circle.
    number = max(8, math.ceil(math.pi / math.acos(1 - _CIRCLE_ERROR / radius)))
    angles = 2 * math.pi / number * np.arange(number)
    return center + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _mask_pixels(shape: LabelmeShape, size: Size) -> Int64[np.ndarray, " p"]:
    check_polygon(shape.points.ravel(), size)
    mask = read_encoded_mask(shape.mask, size, is_compressed=False)
    (x0, y0), (x1, y1) = np.rint(shape.points).astype(np.int64).tolist()
    # Corners are pixels of the mask. After it was moved they are fractions, and each is rounded by itself.
    expected = (y1 - y0 + 1, x1 - x0 + 1)
    if abs(mask.shape[0] - expected[0]) > 1 or abs(mask.shape[1] - expected[1]) > 1:
        raise ValueError(
            f"its mask is {mask.shape[0]}x{mask.shape[1]} (height x width), but its points are the corners of "
            f"{expected[0]}x{expected[1]} pixels: draw it again."
        )
    rows, columns = np.nonzero(mask)
    rows, columns = rows + y0, columns + x0
    is_inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    return rows[is_inside] * size[1] + columns[is_inside]
