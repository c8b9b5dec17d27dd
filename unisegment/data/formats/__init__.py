# SPDX-License-Identifier: Apache-2.0
"""A folder in, the name of its format out; the name of a format, a folder and a split in, its reader out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unisegment.data.annotated_images import AnnotatedImages, long_split_name, require_folder
from unisegment.data.formats.ade20k import Ade20kSemantic
from unisegment.data.formats.cityscapes import CityscapesInstance, CityscapesSemantic
from unisegment.data.formats.coco_instance import CocoInstance, instance_layouts
from unisegment.data.formats.coco_panoptic import CocoPanoptic, panoptic_layouts
from unisegment.data.formats.mapillary_vistas import MapillaryVistasSemantic
from unisegment.data.formats.png_folders import PngInstance, PngSemantic
from unisegment.data.reading.image_reading import Exif, ImageReading
from unisegment.ops.downloads import is_address
from unisegment.ops.value_range import ValueRange


def _open_hugging_face(root: str | Path, split: str, **options: Any) -> AnnotatedImages:
    # Imported here, because `datasets` takes a second and much memory.
    from unisegment.data.formats.hugging_face import HuggingFaceImages

    return HuggingFaceImages.open(str(root), split, **options)


class Format(NamedTuple):
    """A format of data sets.

    Args:
        open: Takes a folder and the name of a split, and returns its images.
        layouts: Takes the name of a split, and returns what folders of the format hold: the paths of each layout, which
            may have `*`. Empty where those of another format have the same reader.
    """

    open: Callable[..., AnnotatedImages]
    layouts: Callable[[str], Iterable[tuple[str, ...]]] = lambda split: ()


def _ade20k(split: str) -> list[tuple[str, ...]]:
    return [(f"images/{long_split_name(split)}", f"annotations/{long_split_name(split)}")]


def _cityscapes(*kinds: str) -> Callable[[str], list[tuple[str, ...]]]:
    return lambda split: [(f"leftImg8bit/{split}", f"gtFine/{split}/*/*_gtFine_{kind}.png") for kind in kinds]


def _mapillary_vistas(split: str) -> list[tuple[str, ...]]:
    folder = long_split_name(split)
    return [(f"{folder}/images", f"{folder}/{edition}labels") for edition in ("", "v1.2/")]


_HUGGING_FACE = [("dataset_dict.json",), ("state.json", "dataset_info.json"), ("*.parquet",), ("data/*.parquet",)]

FORMATS: Mapping[str, Format] = {
    "coco_panoptic": Format(CocoPanoptic.from_folder, panoptic_layouts),
    "coco_instance": Format(CocoInstance.from_folder, instance_layouts),
    "ade20k_semantic": Format(Ade20kSemantic.from_folder, _ade20k),
    "ade20k_instance": Format(CocoInstance.from_folder),
    "ade20k_panoptic": Format(CocoPanoptic.from_folder),
    "cityscapes_semantic": Format(CityscapesSemantic.from_folder, _cityscapes("labelIds", "labelTrainIds")),
    "cityscapes_instance": Format(CityscapesInstance.from_folder, _cityscapes("instanceIds")),
    "cityscapes_panoptic": Format(CocoPanoptic.from_folder),
    "mapillary_vistas_semantic": Format(MapillaryVistasSemantic.from_folder, _mapillary_vistas),
    "mapillary_vistas_panoptic": Format(CocoPanoptic.from_folder),
    "png_semantic": Format(PngSemantic.from_folder, lambda split: [(f"images/{split}", f"labels/{split}")]),
    "png_instance": Format(PngInstance.from_folder, lambda split: [(f"images/{split}", f"instances/{split}")]),
    "hugging_face": Format(_open_hugging_face, lambda split: _HUGGING_FACE),
}

_SIGNS = {
    "coco_panoptic": "annotations/panoptic_train.json",
    "coco_instance": "annotations/instances_train.json",
    "png_semantic": "images/train with labels/train",
    "png_instance": "images/train with instances/train",
    "hugging_face": "dataset_dict.json",
}
"""What is said of the formats of users' own data where a folder has nothing of any."""
_NAMED = 8
"""Things in a folder that are named."""


def guess_format(root: str | Path, splits: Sequence[str] = ("train", "val")) -> str:
    """Return the format whose layout a folder has; nothing is opened.

    Args:
        root: The folder; addresses and Parquet files are for `hugging_face`.
        splits: Names of the parts of which one must be there.

    Raises:
        FileNotFoundError: When there is no such folder.
        ValueError: When it has the layout of no format, or of several; says what was looked for, and what is there.
    """
    if is_address(str(root)) or "*" in str(root) or str(root).endswith(".parquet"):
        return "hugging_face"
    folder = Path(root)
    require_folder(folder)
    found, begun = [], []
    for name, known in FORMATS.items():
        lacking = [(layout, _lacking(folder, layout)) for split in splits for layout in known.layouts(split)]
        if not all(missing for _, missing in lacking):
            found.append(name)
        begun += [(name, layout, missing) for layout, missing in lacking if missing and layout[0] not in missing]
    if len(found) == 1:
        return found[0]
    advice = "Say which it is: data.format=NAME, or --format NAME."
    if found:
        raise ValueError(f"{root} has the layouts of several formats ({', '.join(found)}). {advice}")
    raise ValueError(
        f"{root} has the layout of no known format for the split {' or '.join(splits)}. {_looked_for(begun)} "
        f"{_holds(folder)} {advice}"
    )


def has_split(data_format: str, root: str | Path, split: str) -> bool:
    """Tell whether a folder has what one of the layouts of a format wants of a split, if their names are known."""
    layouts = [*FORMATS[data_format].layouts(split)]
    return not layouts or not all(_lacking(Path(root), layout) for layout in layouts)


def _lacking(folder: Path, layout: tuple[str, ...]) -> list[str]:
    """Return the paths of a layout that a folder does not have."""
    return [path for path in layout if not (any(folder.glob(path)) if "*" in path else (folder / path).exists())]


def _looked_for(begun: Sequence[tuple[str, tuple[str, ...], list[str]]]) -> str:
    """Say what is missing of layouts that are there in part, or else what there could be."""
    if begun:
        name, layout, missing = min(begun, key=lambda one: len(one[2]))
        there = [path for path in layout if path not in missing]
        return f"{name} comes nearest: there is {' and '.join(there)}, but no {' and no '.join(missing)}."
    return f"Looked for were, among others, {', '.join(f'{sign} ({name})' for name, sign in _SIGNS.items())}."


def _holds(folder: Path) -> str:
    """Say what lies in a folder."""
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"It holds {', '.join(names[:_NAMED])}{more}." if names else "It is empty."


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
    if data_format not in FORMATS:
        raise ValueError(f"There is no data set format {data_format!r}, only {', '.join(FORMATS)}.")
    reading = ImageReading(exif, range)
    samples = FORMATS[data_format].open(root, split, **options)
    samples.reading = reading
    return samples
