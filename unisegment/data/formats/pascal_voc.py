# SPDX-License-Identifier: Apache-2.0
"""Pascal VOC's segmentations: a PNG file of classes and one of objects for each image, and lists of images.

`SegmentationClass` shows the class of each pixel, `SegmentationObject` its object, and the files in
`ImageSets/Segmentation` list the images of each split. VOC's own PNG files are palette images, whose numbers count.
CVAT's export "Segmentation mask 1.1" is in colours, and lists the classes with theirs in `labelmap.txt`; what labelme's
script writes lists them in `class_names.txt`, and all images are one split.

Source:
    The PASCAL Visual Object Classes Challenge 2012, development kit; docs.cvat.ai, segmentation mask; labelme's example
    labelme2voc.py.
"""

from collections.abc import Collection
from pathlib import Path

from unisegment.data.formats.format import Format, Found, Layout
from unisegment.data.problems import Problem, Problems
from unisegment.data.reading.label_maps import IMAGE_ENDINGS, Pairs, files_under, images_by_stem
from unisegment.data.reading.text_lines import read_lines
from unisegment.data.reading.voc_maps import MOST_CLASSES, Color, VocMaps, voc_color
from unisegment.files import check_name
from unisegment.ops.json_values import shown, text
from unisegment.structures import Category

_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""Names of the numbers in VOC's PNG files."""
_LABEL_FILES = ("labelmap.txt", "class_names.txt")
_BACKGROUND = ("background", "_background_")


def _open(found: Found, *, problems: Problems, void_ids: Collection[int] = ()) -> VocMaps:
    """Open one split. Background is the only stuff."""
    image_dir, *map_dirs = (_folder(found, role) for role in ("images", "segments", "objects") if role in found.parts)
    maps = [{file.removesuffix(".png") for file in files_under(folder) if file.endswith(".png")} for folder in map_dirs]
    image_of = images_by_stem(image_dir, files_under(image_dir), IMAGE_ENDINGS, problems)
    label_file, files = _label_file(found, map_dirs[0]), []
    names = _listed(found, map_dirs[0], problems)
    for name in sorted(maps[0]) if names is None else names:
        lacking = [folder for folder, there in zip(map_dirs, maps, strict=True) if name not in there]
        image = image_of.get(name)
        if name not in image_of:
            detail = "there is no such image, nor one of another kind, but it is listed, or has a PNG file."
            problems.add("missing-image", image_dir / f"{name}.jpg", detail)
        elif image is None:  # several have the name, which is told
            continue
        elif label_file is not None and lacking == map_dirs:  # CVAT lists images that nobody has annotated yet, too
            detail = "it is listed, but has no PNG file of classes: it is left out."
            problems.add("unannotated-image", image_dir / image, detail)
        elif lacking:
            detail = f"there is no such file for the image {image}: add it, or take the image off the list."
            problems.add("missing-label-map", lacking[0] / f"{name}.png", detail, image_dir / image)
        else:
            files.append((image, f"{name}.png", Path(name).name))
    pairs = Pairs(image_dir, map_dirs[0], files)
    return VocMaps(pairs, map_dirs[1] if map_dirs[1:] else None, _categories(label_file), void_ids=void_ids)


def _folder(found: Found, role: str) -> Path:
    """Return the path of a role; there may be several years of the challenge beside each other."""
    path, root = found.parts[role], Path(found.root)
    if "*" not in str(path):
        return path
    paths = sorted(root.glob(path.relative_to(root).as_posix()))
    if len(paths) > 1:
        names = " and ".join(path.relative_to(root).as_posix() for path in paths)
        raise Problem("no-data", str(root), f"it holds {names}: open one data set of it.").error()
    return paths[0]


def _listed(found: Found, map_dir: Path, problems: Problems) -> list[str] | None:
    """Return the names of the images of a split, without their endings; None where there are no lists."""
    if "annotations" not in found.parts:
        lists = sorted(file.name for file in (map_dir.parent / "ImageSets/Segmentation").glob("*.txt"))
        if lists:
            detail = f"ImageSets/Segmentation has no list of {found.split!r}, only {', '.join(lists[:5])}."
            raise Problem("no-data", str(map_dir.parent), detail).error()
        return None
    file, names = _folder(found, "annotations"), dict[str, None]()
    for number, line in read_lines(file):
        name = line.strip().strip('"')  # CVAT writes names with spaces so
        try:
            check_name(text(name, "the name of an image"))
        except ValueError as error:
            problems.add("wrong-structure", file, f"line {number}: {error}.")
            continue
        if name in names:
            problems.add("duplicate-image-name", file, f"line {number}: {name} is listed before; it counts once.")
        names[name] = None
    return [*names]


def _label_file(found: Found, map_dir: Path) -> Path | None:
    folders = (map_dir.parent, Path(found.root))
    return next((folder / name for folder in folders for name in _LABEL_FILES if (folder / name).is_file()), None)


def _categories(file: Path | None) -> list[Category]:
    """Return the classes of the file that lists them, or VOC's own; background is the first one and the only stuff."""
    colors = dict.fromkeys(_NAMES) if file is None else _label_map(file)
    background = next((name for name in colors if name.lower() in _BACKGROUND or colors[name] == (0, 0, 0)), _NAMES[0])
    colors = {background: colors.get(background)} | colors
    return [
        Category(number, name, name != background, color or voc_color(number))
        for number, (name, color) in enumerate(colors.items())
    ]


def _label_map(file: Path) -> dict[str, Color | None]:
    """Return the classes of a file with their colours, of which it may name none; a line is `name:red,green,blue:…`."""
    colors: dict[str, Color | None] = {}
    for number, line in read_lines(file):
        if line.startswith("#"):
            continue
        name, _, rest = line.strip().partition(":")
        try:
            color = _color(rest.partition(":")[0])
            if text(name, "name") in colors or (color and color in colors.values()):
                raise ValueError("its name or colour is that of a class before it")
            if len(colors) == MOST_CLASSES:
                raise ValueError(f"there are more than {MOST_CLASSES} classes")
        except ValueError as error:
            wanted = "name:red,green,blue, with levels from 0 to 255"
            detail = f"line {number} must be {wanted}; got {shown(line)}: {error}."
            raise Problem("wrong-structure", str(file), detail).error() from error
        colors[name] = color
    return colors


def _color(levels: str) -> Color | None:
    if not levels.strip():
        return None
    red, green, blue = map(int, levels.split(","))
    if not 0 <= min(red, green, blue) <= max(red, green, blue) <= 255:
        raise ValueError("a level is out of range")
    return red, green, blue


def _has_objects(found: Found) -> bool:
    return (_folder(found, "segments").parent / "SegmentationObject").is_dir()


def _layouts(**maps: str) -> list[Layout]:
    """Return where the parts may lie: lists of splits, a list of all, no list; in a folder of the challenge."""
    folders = {"images": "JPEGImages", **maps}
    with_splits = {"annotations": "ImageSets/Segmentation/{split}.txt", **folders}
    return [
        Layout(parts=with_splits),
        Layout(parts={"annotations": "ImageSets/Segmentation/default.txt", **folders}),
        Layout(parts=folders),
        Layout(parts={role: f"VOC*/{path}" for role, path in with_splits.items()}),
        Layout(parts={role: f"VOCdevkit/VOC*/{path}" for role, path in with_splits.items()}),
    ]


_LABELS = "`labelmap.txt` or `class_names.txt`; without one, the challenge's 20 and background"

FORMATS = (
    Format(
        name="pascal_voc",
        summary="Pascal VOC and CVAT's segmentation masks: PNG files of classes and of objects, lists of images",
        layouts=_layouts(segments="SegmentationClass", objects="SegmentationObject"),
        open=_open,
        tasks=("panoptic", "instance", "semantic"),
        labels=_LABELS,
    ),
    Format(
        name="pascal_voc_semantic",
        summary="Pascal VOC and CVAT's segmentation masks: PNG files of classes alone, lists of images",
        layouts=_layouts(segments="SegmentationClass"),
        open=_open,
        tasks=("semantic",),
        labels=_LABELS,
        sniff=lambda found: not _has_objects(found),
    ),
)
