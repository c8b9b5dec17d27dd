# SPDX-License-Identifier: Apache-2.0
"""The formats of data sets: a folder in, its format out; a folder, a format and a split in, annotated images out.

A format is a file of this package, which ends in its `FORMATS`, and a line in `MODULES`; what writes it, if
anything does, is a line in `unisegment.data.writing.WRITERS`. Training, evaluation,
check-data, the command's help and the documentation know it from there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unisegment.data.formats.format import SPLIT_NAMES, Format, Found
from unisegment.files import require_folder
from unisegment.ops.downloads import is_address

if TYPE_CHECKING:  # torch: seconds, which nobody waits for who only asks for names
    from unisegment.data.annotated_images import AnnotatedImages
    from unisegment.data.problems import Problems
    from unisegment.data.reading.image_reading import Exif
    from unisegment.ops.value_range import ValueRange

MODULES: dict[str, str] = {
    "coco_panoptic": "unisegment.data.formats.coco_panoptic",
    "coco_instance": "unisegment.data.formats.coco_instance",
    "ade20k_semantic": "unisegment.data.formats.ade20k",
    "ade20k_instance": "unisegment.data.formats.ade20k",
    "ade20k_panoptic": "unisegment.data.formats.ade20k",
    "cityscapes_semantic": "unisegment.data.formats.cityscapes",
    "cityscapes_instance": "unisegment.data.formats.cityscapes",
    "cityscapes_panoptic": "unisegment.data.formats.cityscapes",
    "mapillary_vistas_semantic": "unisegment.data.formats.mapillary_vistas",
    "mapillary_vistas_panoptic": "unisegment.data.formats.mapillary_vistas",
    "png_semantic": "unisegment.data.formats.png_folders",
    "png_instance": "unisegment.data.formats.png_folders",
    "yolo_segmentation": "unisegment.data.formats.yolo_segmentation",
    "labelme": "unisegment.data.formats.labelme",
    "pascal_voc": "unisegment.data.formats.pascal_voc",
    "pascal_voc_semantic": "unisegment.data.formats.pascal_voc",
    "supervisely": "unisegment.data.formats.supervisely",
    "png_per_object": "unisegment.data.formats.png_per_object",
    "hugging_face": "unisegment.data.formats.hugging_face",
    "synthetic": "unisegment.data.formats.synthetic",
}
"""The module of each format, which is imported when somebody needs it."""

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[("auto", *MODULES)]
"""A word that `data.format` takes; "auto" is the format whose layout a folder has."""

_NAMED = 8
"""Things in a folder that are named."""
_ADVICE = "Say which it is: data.format=NAME, or --format NAME."


class _Registry(Mapping[str, Format]):
    """Every format by its name, in the order of `MODULES`."""

    def __getitem__(self, name: str) -> Format:
        (found,) = (known for known in import_module(MODULES[name]).FORMATS if known.name == name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


FORMATS = _Registry()


def open_data_set(
    root: str | Path,
    format: str | None = None,
    split: str = "train",
    *,
    splits: Mapping[str, str] | None = None,
    val_share: float | None = None,
    split_seed: int = 0,
    annotations: str | Mapping[str, str] | None = None,
    images: str | Mapping[str, str] | None = None,
    segments: str | Mapping[str, str] | None = None,
    exif: "Exif" = "upright",
    range: "ValueRange" = "dtype",
    problems: "Problems | None" = None,
    **options: Any,
) -> "AnnotatedImages":
    """Return the images of one split of a data set, with their annotation.

    Args:
        root: Folder of the data set; for `hugging_face`, also the name of one on the Hub, or a URL.
        format: One of `FORMATS`; None sees it by the layout of the folder.
        split: "train" or "val", or another part that the data set has. "val" is also what is called valid, validation,
            dev or test, the first that is there. Of a data set without splits, all is "train".
        splits: Which images are meant by the name of a split, such as {"train": "train[:90%]", "val": "train[90%:]"},
            as `datasets` writes it.
        val_share: Instead of that, the share of the images of "train", from 0 to 1, that is held out as "val". They
            are drawn at random.
        split_seed: Seed of that draw.
        annotations: File or folder of the annotations, where they lie elsewhere; relative to `root`. A text is for
            "train"; a dict has one for each split.
        images: The same of the folder of the images.
        segments: The same of the folder of PNG files, for formats that have a file of annotations beside them.
        exif: "upright" turns images, and maps of labels, as their EXIF data say; "stored" is for annotations that were
            made on images as they are stored.
        range: Which numbers become black and white in images of more than 8 bits: "dtype", "percentile" or
            (low, high), see `unisegment.ops.value_range.to_uint8`.
        problems: Where the reader tells what is wrong; None raises at the first error.
        **options: `void_ids`, ids in the files that are void beside those that the format says; and what else the
            format takes (`Format.options`): `categories`, what names the categories, a JSON file, names of the ids from
            0 on, or names by id; `columns` and `streaming`, see `HuggingFaceImages.open`.

    Raises:
        FileNotFoundError: When files are missing; says which.
        ValueError: When a file is not as the format wants it, or the format or an option is unknown.
    """
    from unisegment.data.problems import Problems
    from unisegment.data.reading.image_reading import ImageReading
    from unisegment.data.splitting import part_of_split

    reading = ImageReading(exif, range)
    whole, part = part_of_split(split, splits, val_share, split_seed)
    if format in (None, "auto"):
        format = guess_format(root, [*dict.fromkeys(("train", "val", whole))])
    known = _format_named(format)
    check_options(known, options.keys() - {"void_ids"})
    places = {"annotations": annotations, "images": images, "segments": segments}
    found = find_split(root, known, whole, places)
    samples = known.open(found, problems=problems or Problems(), **options)
    samples.reading = reading
    return part(samples)


def guess_format(root: str | Path, splits: Sequence[str] = ("train", "val")) -> str:
    """Return the format whose layout a folder has; of each format, one file is looked into at most.

    Args:
        root: The folder; addresses and Parquet files are for `hugging_face`.
        splits: Names of the parts of which one must be there, in data sets that have splits.

    Raises:
        FileNotFoundError: When there is no such folder.
        ValueError: When it has the layout of no format, or of several; says what was looked for, and what is there.
            When a name is none of a split.
    """
    if is_address(str(root)) or "*" in str(root) or str(root).endswith(".parquet"):
        return "hugging_face"
    for split in splits:
        _check_split(split)
    folder = Path(root)
    require_folder(folder)
    guessed = [known for known in FORMATS.values() if known.is_guessed]
    names = [known.name for known in guessed if known.fits(folder, splits)]
    if len(names) == 1:
        return names[0]
    if names:
        raise ValueError(f"{root} has the layouts of several formats ({', '.join(names)}). {_ADVICE}")
    raise ValueError(
        f"{root} has the layout of no known format for the split {' or '.join(splits)}. "
        f"{_looked_for(guessed, folder, splits)} {_holds(folder)} {_ADVICE}"
    )


def _format_named(name: str) -> Format:
    if name not in MODULES:
        raise ValueError(f"There is no data set format {name!r}, only {', '.join(MODULES)}.")
    return FORMATS[name]


def check_options(known: Format, names: Iterable[str]) -> None:
    """Raise a ValueError unless a format takes all options of these names."""
    for name in names:
        if name not in known.options:
            others = [other.name for other in FORMATS.values() if name in other.options]
            raise ValueError(
                f"{name} is for format={', '.join(others)}, but format={known.name}."
                if others
                else f"There is no option {name!r} of data sets."
            )


def find_split(root: str | Path, known: Format, split: str, places: Mapping[str, Any] = {}) -> Found:
    """Return what there is of a split.

    Args:
        root: As in `open_data_set`.
        known: The format.
        split: Name of the split.
        places: `annotations`, `images` and `segments` as there, in place of what the layout says.

    Raises:
        FileNotFoundError: When the folder has no such split.
        ValueError: When the name is none of a split, or when the places do not go with the split or the format, or are
            not all that the format needs.
    """
    _check_places(known, places)
    if not known.is_folder:
        return Found(root, split)
    _check_split(split)
    folder = Path(root)
    require_folder(folder)
    found = known.find(folder, split)
    paths = {role: folder / path for role, given in places.items() if given and (path := _path_of(role, given, split))}
    if paths:
        known_parts = {} if found is None else dict(found.parts)
        if "annotations" in paths:  # PNG files of another annotation file do not go with it
            known_parts.pop("segments", None)
        settings = known.layouts[0].settings if found is None else found.settings
        found = Found(folder, split, known_parts | paths, settings)
        _require_all(known, found)
    if found is not None:
        return found
    raise FileNotFoundError(
        f"{root} has no split {split!r} of the format {known.name}. {_advice(folder, known, split)}"
    )


def _check_split(split: str) -> None:
    """Raise a ValueError unless a name of a split can be part of a path, and is no pattern."""
    if not split.strip(".") or any(sign in split for sign in "/\\*?["):
        raise ValueError(f"split must be the name of a part of the data set, such as 'train', got {split!r:.200}.")


def _check_places(known: Format, places: Mapping[str, Any]) -> None:
    """Raise a ValueError unless a format reads what lies at all places that are given."""
    has_segments = any("segments" in layout.parts for layout in known.layouts)
    for role, given in places.items():
        if given and (not known.is_folder or (role == "segments" and not has_segments)):
            raise ValueError(f"data.{role} is not for format={known.name}: leave it out.")


def _require_all(known: Format, found: Found) -> None:
    """Raise a ValueError unless all parts of a split are known that a format cannot do without."""
    missing = known.roles - found.parts.keys() - {"sign"}
    if "annotations" in known.roles:  # PNG files lie in the folder that is named as the annotation file
        missing -= {"segments"}
    keys = " and ".join(f"data.{role}" for role in sorted(missing & {"annotations", "images", "segments"}))
    if keys:
        raise ValueError(f"{found.root}: say where the rest lies, too: {keys}.")
    if missing:
        raise ValueError(
            f"{found.root}: {' and '.join(sorted(missing))} of the format {known.name} cannot lie elsewhere. The "
            f"folder must have all parts of one of these: {known.describe(found.split)}."
        )


def _advice(folder: Path, known: Format, split: str) -> str:
    """Say what to do where a split is missing."""
    there = [name for name in ("train", "val") if known.find(folder, name) is not None]
    hold_out = "data.val_share=0.1, or data.splits={train: 'train[:90%]', val: 'train[90%:]'}"
    if there and not known.has_splits(folder):
        return (
            f"The data set has no splits: all of it is 'train'. Hold some of its images out: {hold_out}. To evaluate "
            "on all of them, name that split: --split train."
        )
    advice = f"It must have all parts of one of these: {known.describe(split)}."
    if "train" in there and split == "val":
        return (
            f"{advice} Hold some of the images of 'train' out: {hold_out}; or move them, with their annotation, to a "
            "split of that name."
        )
    return f"{advice} There is {there[0]!r}." if there else advice


def _path_of(role: str, given: str | Mapping[str, str], split: str) -> str | None:
    if not isinstance(given, str):
        return next((given[name] for name in SPLIT_NAMES.get(split, (split,)) if name in given), None)
    if split != "train":
        raise ValueError(
            f"data.{role}={given} is all for 'train'. Give one for each split, {{train: {given}, {split}: …}}, or hold "
            "some of the images out: data.val_share=0.1."
        )
    return given


def _looked_for(guessed: Sequence[Format], folder: Path, splits: Sequence[str]) -> str:
    """Say what is missing of layouts that are there in part, or else what there could be."""
    begun = []
    for known in guessed:
        for layout in known.layouts:
            for split in splits:
                for name in layout.names_of(split):
                    paths, missing = layout.paths(name), layout.lacking(folder, name)
                    if missing and paths[0] not in missing:
                        begun.append((known.name, paths, missing))
    if begun:
        nearest, paths, missing = min(begun, key=lambda one: len(one[2]))
        there = [path for path in paths if path not in missing]
        return f"{nearest} comes nearest: there is {' and '.join(there)}, but no {' and no '.join(missing)}."
    signs = [f"{known.layouts[0].paths('train')[0]} ({known.name})" for known in guessed if known.layouts]
    return f"Looked for were, among others, {', '.join(signs)}."


def _holds(folder: Path) -> str:
    """Say what lies in a folder."""
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"It holds {', '.join(names[:_NAMED])}{more}." if names else "It is empty."
