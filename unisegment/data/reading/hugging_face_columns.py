# SPDX-License-Identifier: Apache-2.0
"""What the columns of a Hugging Face data set hold: which is the image and which the annotation, and their content."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Features, Value
from jaxtyping import Shaped
from PIL import Image

from unisegment.data.categories import stuff_label_ids
from unisegment.data.formats.png_folders import CategoryList, categories_of, given_categories
from unisegment.data.reading.hugging_face_sources import Rows
from unisegment.ops.image_opening import open_image
from unisegment.ops.json_reading import parse_json, read_json
from unisegment.ops.json_values import shown, text
from unisegment.ops.near_names import did_you_mean
from unisegment.structures import Category

ANNOTATIONS = ("semantic", "instance", "class_and_instance", "panoptic", "objects")
"""The kinds of annotation, of which a data set has one."""

_ROLES = ("image", *ANNOTATIONS, "segments_info", "image_id")
_USUAL_NAMES = {
    "image": ("image", "pixel_values", "img"),
    "segments_info": ("segments_info", "segments"),
    "image_id": ("image_id", "id"),
}
_USUAL_MAPS = ("label", "labels", "annotation", "mask", "segmentation", "segmentation_bitmap", "semantic", "panoptic")
# Where the data sets of transformers' own example of instance segmentation keep their categories.
_CLASSES_COLUMN = "semantic_class_to_id"


def choose_columns(features: Features, given: Mapping[str, str]) -> dict[str, str]:
    """Return which column has which role; see `HuggingFaceImages.open`.

    Args:
        features: What the columns hold.
        given: Columns by role; the others are guessed, where their names leave no doubt.

    Raises:
        ValueError: When a column or role does not exist, or when a role that is needed has no column.
    """
    for role, column in given.items():
        _check_is_one_of(role, _ROLES, "data.columns has no")
        _check_is_one_of(column, features, f"data.columns.{role}: there is no column")
    annotations = [role for role in ANNOTATIONS if role in given]
    if len(annotations) > 1:
        raise ValueError(f"data.columns names {' and '.join(annotations)}, but there is one annotation: leave one.")
    columns = ({} if annotations else _guess_annotation(features)) | dict(given)
    for role, names in _USUAL_NAMES.items():
        usual = next((name for name in names if name in features), None)
        if usual is not None and (role != "image_id" or _is_name(features[usual])):
            columns.setdefault(role, usual)
    for role in ("image", *(["segments_info"] if "panoptic" in columns else [])):
        if role not in columns:
            raise ValueError(f"which column is data.columns.{role}? There are {', '.join(features)}.")
    return columns


def find_categories(
    rows: Rows, columns: Mapping[str, str], find_file: Callable[[str], Path | None], given: CategoryList | None
) -> list[Category]:
    """Return the categories of a data set; without `isthing` they are things, or stuff in semantic maps.

    Args:
        rows: The data set, in its Arrow format.
        columns: Column of each role.
        find_file: Returns a file that lies beside the rows, by its name, if there is one.
        given: What names the categories, or the JSON file that does. None looks for class names in the column of the
            annotation, for `categories.json` and `id2label.json` beside the rows, and for a
            column `semantic_class_to_id`.

    Raises:
        FileNotFoundError: When the given file is missing.
        ValueError: When nothing names the categories, or not as `categories_of` says.
    """
    content, source = _category_names(rows, columns, find_file, given)
    categories = categories_of(content, source, not {"semantic", "panoptic"} & columns.keys())
    if "class_and_instance" in columns:
        return [category for category in categories if (category.id, category.name.lower()) != (0, "background")]
    if "panoptic" in columns and not any(category.is_thing for category in categories):
        stuff = stuff_label_ids({label: category.name for label, category in enumerate(categories)})
        if stuff is None:
            raise ValueError(
                f'{source} must say which categories are things: [{{"id": 1, "name": "cow", "isthing": 1}}].'
            )
        return [
            Category(category.id, category.name, label not in stuff, category.color)
            for label, category in enumerate(categories)
        ]
    return categories


def picture_in(row: pa.Table, column: str) -> Image.Image | Shaped[np.ndarray, "..."]:
    """Return the image in a column, as it is stored, or the array.

    Args:
        row: A table with one row.
        column: Holds files of images (their content, or their paths), or lists of numbers.

    Raises:
        FileNotFoundError: When there is a path, but no such file.
        ValueError: When there is no image, or it cannot be read.
    """
    cell = _cell(row, column)
    if _is_list(cell.type):
        return _array(cell, column)
    stored = _stored_image(cell, column)
    content, path = stored.get("bytes"), stored.get("path")
    if isinstance(content, bytes):
        return open_image(BytesIO(content), f"column {column!r}")
    if content is not None:
        raise ValueError(f"column {column!r} must hold the bytes of an image, got {shown(content)}.")
    if path is None:
        raise ValueError(f"column {column!r} is empty, but must hold an image.")
    file = Path(text(path, f"column {column!r}"))
    if not file.is_file():
        raise FileNotFoundError(f"column {column!r} names {file}, but there is no such file.")
    return open_image(file)


def bytes_in(row: pa.Table, column: str) -> bytes | None:
    """Return the content of the image file in a column, if it is stored."""
    cell = _cell(row, column)
    content = None if _is_list(cell.type) else _stored_image(cell, column).get("bytes")
    return content if isinstance(content, bytes) else None


def path_in(row: pa.Table, column: str) -> str | None:
    """Return the name or path of the image in a column, if it is stored."""
    cell = _cell(row, column)
    path = None if _is_list(cell.type) else _stored_image(cell, column).get("path")
    return path if isinstance(path, str) else None


def value_in(row: pa.Table, column: str) -> Any:
    """Return what a column holds, as numbers, texts, lists and dicts."""
    return _cell(row, column)[0].as_py()


def entries_in(row: pa.Table, column: str) -> list[dict[str, Any]]:
    """Return the dicts in a column: stored as a list of dicts, as a dict of lists, or as JSON of either.

    Raises:
        ValueError: When it holds something else.
    """
    value = value_in(row, column)
    if isinstance(value, str):
        value = parse_json(value, f"column {column!r}")
    if isinstance(value, dict) and all(isinstance(items, list) for items in value.values()):
        if len({*map(len, value.values())}) > 1:
            raise ValueError(f"column {column!r} must hold lists of equal length, got {shown(value)}.")
        value = [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"column {column!r} must hold a list of dicts, got {shown(value)}.")
    return value


def _check_is_one_of(name: str, names: Any, problem: str) -> None:
    if name not in names:
        raise ValueError(f"{problem} {name!r}, only {', '.join(names)}.{did_you_mean(name, names)}")


def _guess_annotation(features: Features) -> dict[str, str]:
    maps = [name for name in _USUAL_MAPS if name in features and not isinstance(features[name], Value | ClassLabel)]
    if len(maps) == 1:
        if any(name in features for name in _USUAL_NAMES["segments_info"]):
            return {"panoptic": maps[0]}
        return {"class_and_instance" if _CLASSES_COLUMN in features else "semantic": maps[0]}
    if not maps and "objects" in features:
        return {"objects": "objects"}
    raise ValueError(
        f"which column holds the annotation? There are {', '.join(features)}. Name it as what it is, one of "
        f"{', '.join(ANNOTATIONS)}: data.columns={{semantic: COLUMN}}."
    )


def _is_name(feature: Any) -> bool:
    return isinstance(feature, Value) and ("int" in feature.dtype or "string" in feature.dtype)


def _category_names(
    rows: Rows, columns: Mapping[str, str], find_file: Callable[[str], Path | None], given: CategoryList | None
) -> tuple[Any, str]:
    """Return what names the categories, and what that is called in messages."""
    if given is not None:
        return given_categories(given)
    annotation = next(columns[role] for role in ("segments_info", *ANNOTATIONS) if role in columns)
    names = _class_names(rows.features[annotation])
    if names:
        return names, f"column {annotation!r}"
    for name in ("categories.json", "id2label.json"):
        file = find_file(name)
        if file is not None:
            return read_json(file), str(file)
    if _CLASSES_COLUMN in rows.features and len(rows):
        ids = value_in(rows.select_columns([_CLASSES_COLUMN])[0], _CLASSES_COLUMN)
        return {number: name for name, number in ids.items() if number is not None}, f"column {_CLASSES_COLUMN!r}"
    raise ValueError(
        "nothing says what the categories are called. Write a JSON file with a dict from id to name, or a list of "
        '{"id": 1, "name": "cow", "isthing": true}, and name it: data.categories=FILE.'
    )


def _class_names(feature: Any) -> list[str] | None:
    """Return the names of classes, in lists and in dicts, too, where the class is that of a segment."""
    if isinstance(feature, ClassLabel):
        return feature.names
    if isinstance(feature, Mapping):
        feature = feature.get("category_id", feature.get("category"))
    elif isinstance(feature, list):
        feature = feature[0]
    else:
        feature = getattr(feature, "feature", None)
    return None if feature is None else _class_names(feature)


def _cell(row: pa.Table, column: str) -> pa.Array:
    cell = row[column].combine_chunks()
    # Arrays of a fixed number of axes, and JSON, are types of their own.
    return cell.storage if isinstance(cell, pa.ExtensionArray) else cell


def _stored_image(cell: pa.Array, column: str) -> dict[str, Any]:
    stored = cell[0].as_py()
    if isinstance(stored, dict | None):
        return stored or {}
    if not isinstance(stored, str | bytes):
        raise ValueError(f"column {column!r} must hold an image, its bytes or its path, got {shown(stored)}.")
    return {"path" if isinstance(stored, str) else "bytes": stored}


def _is_list(arrow_type: pa.DataType) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(arrow_type) for is_kind in kinds)


def _array(cell: pa.Array, column: str) -> Shaped[np.ndarray, "..."]:
    """Return lists of lists of numbers as an array."""
    shape = []
    while _is_list(cell.type):
        lengths = set(cell.value_lengths().to_pylist())
        if len(lengths) != 1 or None in lengths:
            raise ValueError(f"column {column!r} must hold lists of equal length, got lengths {list(lengths)[:5]}.")
        shape.append(lengths.pop())
        cell = cell.flatten()
    return cell.to_numpy(zero_copy_only=False).reshape(shape)
