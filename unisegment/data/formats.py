# SPDX-License-Identifier: Apache-2.0
"""The name of a format, a folder and a split in, the reader of a data set out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unisegment.data.ade20k import Ade20kSemantic
from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.cityscapes import CityscapesInstance, CityscapesSemantic
from unisegment.data.coco_instance import CocoInstance
from unisegment.data.coco_panoptic import CocoPanoptic
from unisegment.data.image_reading import Exif, ImageReading
from unisegment.data.mapillary_vistas import MapillaryVistasSemantic
from unisegment.data.png_folders import PngInstance, PngSemantic
from unisegment.ops.value_range import ValueRange


def _open_hugging_face(root: str | Path, split: str, **options: Any) -> AnnotatedImages:
    # Imported here, because `datasets` takes a second and much memory.
    from unisegment.data.hugging_face import HuggingFaceImages

    return HuggingFaceImages.open(str(root), split, **options)


_READERS: Mapping[str, Callable[..., AnnotatedImages]] = {
    "coco_panoptic": CocoPanoptic.from_folder,
    "coco_instance": CocoInstance.from_folder,
    "ade20k_semantic": Ade20kSemantic.from_folder,
    "ade20k_instance": CocoInstance.from_folder,
    "ade20k_panoptic": CocoPanoptic.from_folder,
    "cityscapes_semantic": CityscapesSemantic.from_folder,
    "cityscapes_instance": CityscapesInstance.from_folder,
    "cityscapes_panoptic": CocoPanoptic.from_folder,
    "mapillary_vistas_semantic": MapillaryVistasSemantic.from_folder,
    "mapillary_vistas_panoptic": CocoPanoptic.from_folder,
    "png_semantic": PngSemantic.from_folder,
    "png_instance": PngInstance.from_folder,
    "hugging_face": _open_hugging_face,
}


def open_data_set(
    data_format: str,
    root: str | Path,
    split: str,
    *,
    exif: Exif = "upright",
    range: ValueRange = "dtype",
    **options: Any,
) -> AnnotatedImages:
    """Return the images of one split of a data set.

    Args:
        data_format: One of the formats; the error lists them.
        root: Folder of the data set; for `hugging_face`, also the name of one on the Hub, or a URL.
        split: "train" or "val", or another part that the folder has.
        exif: "upright" turns images, and maps of labels, as their EXIF data say; "stored" is for annotations that were
            made on images as they are stored.
        range: Which numbers become black and white in images of more than 8 bits: "dtype", "percentile" or
            (low, high), see `unisegment.ops.value_range.to_uint8`.
        **options: `void_ids`, ids in the files that are void beside those that the format says; for formats that are
            named `png`, `categories`, see `PngSemantic.from_folder`; for `hugging_face`, see `HuggingFaceImages.open`.

    Raises:
        FileNotFoundError: When files are missing; says which.
        ValueError: When a file is not as the format wants it, or the format or an option is unknown.
    """
    if data_format not in _READERS:
        raise ValueError(f"There is no data set format {data_format!r}, only {', '.join(_READERS)}.")
    reading = ImageReading(exif, range)
    samples = _READERS[data_format](root, split, **options)
    samples.reading = reading
    return samples
