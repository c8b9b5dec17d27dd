# SPDX-License-Identifier: Apache-2.0
"""Small data sets of Hugging Face's library for tests, in every place that they may come from."""

import io
import json

import numpy as np
from datasets import Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PillowImage

SIZES = ((2, 3), (3, 5), (5, 2), (2, 7), (3, 2), (4, 3), (2, 5))
"""Height and width of the image in each row of `semantic_rows`."""


def file_of(rows, dtype=np.uint8, kind="PNG"):
    """Return the content of an image file."""
    content = io.BytesIO()
    PillowImage.fromarray(np.array(rows, dtype=dtype)).save(content, kind)
    return content.getvalue()


def semantic_rows():
    """Return rows whose image shows the number of the row, and whose map has it in the first pixel and 9 elsewhere."""
    images, labels = [], []
    for number, (height, width) in enumerate(SIZES):
        label = np.full((height, width), 9)
        label[0, 0] = number
        images.append({"bytes": file_of(np.full((height, width, 3), number)), "path": f"{number}.png"})
        labels.append({"bytes": file_of(label), "path": None})
    features = Features({"image": Image(), "label": Image(), "unused": Value("string")})
    return Dataset.from_dict({"image": images, "label": labels, "unused": ["u"] * len(SIZES)}, features=features)


def write_names(folder):
    """Write the names of the categories of `semantic_rows`, all but the first, beside the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "id2label.json").write_text(json.dumps({number: f"class {number}" for number in range(1, 10)}))


def save(folder, rows, *, row_group=2):
    """Write rows in each of the ways that there are: all to train on, and the first three held out."""
    held_out = rows.select(range(3))
    DatasetDict(train=rows, validation=held_out).save_to_disk(folder / "saved")
    (folder / "parquet/data").mkdir(parents=True)
    first, second = rows.select(range(4)), rows.select(range(4, len(rows)))
    for name, part in {
        "train-00000-of-00002": first,
        "train-00001-of-00002": second,
        "validation-00000-of-00001": held_out,
    }.items():
        part.to_parquet(folder / f"parquet/data/{name}.parquet", batch_size=row_group)
    for name in ("saved", "parquet"):
        write_names(folder / name)


def same(ours, theirs):
    """Return whether two samples are the same."""
    return (
        np.array_equal(ours.image, theirs.image)
        and ours.target.labels.tolist() == theirs.target.labels.tolist()
        and ours.target.binary_masks().equal(theirs.target.binary_masks())
        and (ours.image_id, ours.file_name) == (theirs.image_id, theirs.file_name)
    )
