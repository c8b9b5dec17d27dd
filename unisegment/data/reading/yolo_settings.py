# SPDX-License-Identifier: Apache-2.0
"""The YAML file of a YOLO data set in; the names of its classes, and the images of its splits, out.

What stands in it was often right on another computer. A place that is not there is looked for in the folder of the YAML
file: `../train/images` and `/content/data/train/images` both mean `train/images` there.

Source:
    https://docs.ultralytics.com/datasets/segment/#dataset-yaml-format; what places are relative to: `check_det_dataset`
    in ultralytics/data/utils.py and `get_img_files` in ultralytics/data/base.py.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from unisegment.data.formats.format import SPLIT_NAMES
from unisegment.data.problems import Problem
from unisegment.data.reading.label_maps import images_under
from unisegment.data.reading.text_lines import read_lines
from unisegment.files import is_named_within
from unisegment.ops.json_values import shown, text, whole_number
from unisegment.ops.yaml_reading import read_yaml

_USUAL = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")
_SPLITS = tuple(name for names in SPLIT_NAMES.values() for name in names)
_NAMES = ("names", "nc")
_LOOKED_AT = 20
"""Images at the beginning of a list by which it is seen what all of them are relative to."""


class _Way(NamedTuple):
    """How the places of a file are followed.

    Args:
        base: The folder that they are relative to.
        dropped: How many of their first folders are left away.
    """

    base: Path
    dropped: int

    def follow(self, place: Path) -> Path:
        """Return where a place leads."""
        return Path(os.path.normpath(self.base.joinpath(*place.parts[self.dropped :])))


@dataclass(frozen=True)
class YoloSettings:
    """What a YAML file says of a data set.

    Args:
        file: The file.
        content: What it holds.
    """

    file: Path
    content: dict[str, Any]

    @property
    def splits(self) -> list[str]:
        """Names of the splits that it names images of."""
        return [name for name in _SPLITS if self.content.get(name)]

    def names(self) -> dict[Any, Any]:
        """Return the names of the classes by number; what they are is not looked at.

        Raises:
            DataError: When it has none, or another number of them than it says.
        """
        names, number = self.content.get("names"), self.content.get("nc")
        if names is None and number is not None:
            return {place: f"class_{place}" for place in range(self._number(number))}
        if not isinstance(names, list | dict) or not names:
            raise self._wrong(
                f"`names` must be the names of the classes, a list or a dict by number, got {shown(names)}."
            )
        if number is not None and self._number(number) != len(names):
            raise self._wrong(f"`nc` is {shown(number)}, but `names` has {len(names)} names: correct one of them.")
        return names if isinstance(names, dict) else dict(enumerate(names))

    def images(self, split: str) -> list[Path]:
        """Return the images of a split, sorted, each once. Those that a list names need not be there.

        Args:
            split: One of `splits`.

        Raises:
            DataError: When a folder or list is not there, or a place leads elsewhere; when it is for key points.
        """
        if self.content.get("kpt_shape"):
            raise self._wrong("`kpt_shape` is for key points, whose lines are no polygons: export it for segmentation.")
        given = self.content[split]
        found: set[Path] = set()
        for written in given if isinstance(given, list) else [given]:
            place = self._place(written, split)
            ways = self._ways(place, self._bases())
            where = next((where for way in ways if os.path.exists(where := way.follow(place))), None)
            if where is None:
                detail = f"`{split}` is {shown(written)}, but {self.file.parent} has no such folder or list of images"
                advice = "correct it. What lies elsewhere needs an absolute path."
                raise Problem("no-data", str(self.file), f"{detail}: {advice}").error()
            found.update(images_under(where) if where.is_dir() else self._listed(where))
        return sorted(found, key=os.fspath)

    def _bases(self) -> list[Path]:
        """Return the folders that places are relative to: `path`, if it is there, and that of the YAML file."""
        root = self.file.parent
        if not self.content.get("path"):
            return [root]
        base = _Way(root, 0).follow(self._place(self.content["path"], "path"))
        is_meant = base.is_dir() and (is_named_within(base, root) or Path(self.content["path"]).is_absolute())
        return [base, root] if is_meant else [root]

    def _ways(self, place: Path, bases: Sequence[Path]) -> Iterator[_Way]:
        """Give the ways to follow a place, the likeliest first; none leads out of the folders."""
        for base in bases:
            if place.is_absolute() or _is_in(_Way(base, 0).follow(place), bases):
                yield _Way(base, 0)
        for dropped in range(1, len(place.parts)):
            rest, before = place.parts[dropped:], place.parts[:dropped]
            # `images` alone would be found whichever split it was of.
            if ".." not in rest and (len(rest) > 1 or set(before) == {".."}):
                yield from (_Way(base, dropped) for base in bases)

    def _listed(self, file: Path) -> list[Path]:
        """Return the images that a text file lists."""
        places = [self._place(line.strip(), f"line {number}", file) for number, line in read_lines(file)]
        bases = list(dict.fromkeys([file.parent, *self._bases()]))
        tried = ((way, place) for place in places[:_LOOKED_AT] for way in self._ways(place, bases))
        way = next((way for way, place in tried if os.path.isfile(way.follow(place))), _Way(bases[0], 0))
        followed = [way.follow(place) for place in places]
        wrong = [
            place
            for place, image in zip(places, followed, strict=True)
            if (way.dropped or not place.is_absolute()) and not _is_in(image, bases)
        ]
        if wrong:
            raise Problem(
                "wrong-structure",
                str(file),
                f"{shown(str(wrong[0]))} leads out of {file.parent}: name images below it, or by absolute paths.",
            ).error()
        return followed

    def _place(self, written: Any, name: str, file: Path | None = None) -> Path:
        try:
            return Path(text(written, name).replace("\\", "/"))
        except ValueError as error:
            raise Problem("wrong-structure", str(file or self.file), f"{error}.").error() from error

    def _number(self, number: Any) -> int:
        try:
            return whole_number(number, "nc", 1, 2**16)
        except ValueError as error:
            raise self._wrong(f"{error}.") from error

    def _wrong(self, detail: str) -> ValueError:
        return Problem("wrong-structure", str(self.file), detail).error()


def find_settings(root: Path) -> YoloSettings | None:
    """Return what the YAML file of a folder says: `data.yaml` or `dataset.yaml`, or else the one that names splits.

    Raises:
        DataError: When `data.yaml` or `dataset.yaml` cannot be read, or there are several others.
    """
    for file in (root / name for name in _USUAL if (root / name).is_file()):
        content = _content(file)
        if content.keys() & {*_NAMES, *_SPLITS}:
            return YoloSettings(file, content)
    found = []
    for file in sorted(path for path in root.iterdir() if path.suffix.lower() in (".yaml", ".yml") and path.is_file()):
        try:
            content = _content(file)
        except ValueError:  # it may be of anything
            continue
        if content.keys() & {*_NAMES} and content.keys() & {*_SPLITS}:
            found.append(YoloSettings(file, content))
    if len(found) > 1:
        names = " and ".join(settings.file.name for settings in found)
        raise Problem("wrong-structure", str(root), f"{names} both describe it: call the right one data.yaml.").error()
    return found[0] if found else None


def _content(file: Path) -> dict[Any, Any]:
    try:
        content = read_yaml(file)
    except ValueError as error:
        detail = str(error).removeprefix(str(file)).lstrip(",: ")
        raise Problem("wrong-structure", str(file), detail).error() from error
    return content if isinstance(content, dict) else {}


def _is_in(place: Path, folders: Sequence[Path]) -> bool:
    return any(is_named_within(place, folder) for folder in folders)
