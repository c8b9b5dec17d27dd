# SPDX-License-Identifier: Apache-2.0
"""Data sets of Hugging Face's `datasets`, from a folder, the Hub or Parquet files; read by `HuggingFaceImages`."""

from typing import Any

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.formats.format import Format, Found, Layout
from unisegment.data.problems import Problems


def _open(found: Found, *, problems: Problems, **options: Any) -> AnnotatedImages:
    # Imported here, because `datasets` takes a second and much memory.
    from unisegment.data.reading.hugging_face_images import HuggingFaceImages

    return HuggingFaceImages.open(str(found.root), found.split, **options)


FORMATS = (
    Format(
        name="hugging_face",
        summary="what Hugging Face's library `datasets` opens: a saved folder, the Hub, Parquet files",
        layouts=[
            Layout(parts={"rows": file}) for file in ("dataset_dict.json", "state.json", "*.parquet", "data/*.parquet")
        ],
        open=_open,
        tasks=("panoptic", "instance", "semantic"),
        labels="class names of the columns, `id2label.json`, or `data.categories`",
        options=frozenset(("columns", "categories", "streaming")),
        is_folder=False,
    ),
)
