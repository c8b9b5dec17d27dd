# SPDX-License-Identifier: Apache-2.0
"""What each finished image of a run left behind, so that a run that was stopped goes on: at most one image is lost.

It is written last, as a JSON file of the folder; an image that has one is finished.
"""

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from unisegment.files import PARTIAL, inside, write_text
from unisegment.ops.json_reading import read_json
from unisegment.ops.json_values import shown
from unisegment.runs.folder_lock import LOCK

_REMOVE = "remove it, and give the same command again"
_DIGESTS = {"image_names": "other names of images", "weights": "other weights"}


class OtherRunError(ValueError):
    """The output folder holds results of another run, or other files."""


@dataclass(frozen=True)
class PartFolder:
    """What each finished image left behind.

    Args:
        folder: Where.
        names: Name of each image, of which its file is named, so that images may come between; None where only reading
            them tells: files have their numbers, then.
        may_grow: Whether a run may have more images than that which it goes on with, which `images` and `image_names`
            of its settings describe.
    """

    folder: Path
    names: Sequence[str] | None = None
    may_grow: bool = False

    def begin(self, settings: Mapping[str, Any], num_images: int) -> list[int]:
        """Make the folder for a run, or find that it is that of the same run, and return which images are left to do.

        Raises:
            OtherRunError: When it was made with other settings or of an image that is gone, or there are other files
                beside it.
            ValueError: When it is a link to a folder elsewhere.
            WriteError: When it cannot be made.
        """
        output = self.folder.parent
        file = inside(output, f"{self.folder.name}/settings.json")
        if not file.exists():
            files = (path for path in output.rglob("*") if not path.is_dir())
            if other := next((path for path in files if path.suffix != PARTIAL and path.name != LOCK), None):
                raise OtherRunError(f"{output} holds other files, such as {other}: choose a new or an empty folder.")
            write_text(file, json.dumps(settings, indent=2))
            return list(range(num_images))
        before = read_own(file, {}, f"choose another folder, or remove {output}")
        grown = {key: settings[key] for key in ("images", "image_names")} if self.may_grow else {}
        require_same(output, settings, before | grown)
        if self.names is not None:
            self._check_finished(self.names)
        if settings != before:
            write_text(file, json.dumps(settings, indent=2))
        return [index for index in range(num_images) if not self.file(index).exists()]

    def _check_finished(self, names: Sequence[str]) -> None:
        """Check that each finished image is one of these, and name the files of version 0.1 as today's are."""
        files = {name: self.file(index) for index, name in enumerate(names)}
        for file in {*self.folder.glob("*.json")} - {*files.values(), self.folder / "settings.json"}:
            name = read_own(file, {"name": str}, _REMOVE)["name"]
            if name not in files:
                raise OtherRunError(
                    f"{self.folder.parent} holds results of {name}, which is not among the images: choose another "
                    "folder, or remove that one."
                )
            file.replace(files[name])

    def write(self, index: int, content: dict[str, Any]) -> None:
        """Say that an image is finished, and what it left behind."""
        write_text(self.file(index), json.dumps(content))

    def read(self, kinds: Mapping[str, type], numbers: Container[int] | None = None) -> Iterator[dict[str, Any]]:
        """Give what the finished images left behind, one after the other, in the order of the images.

        Args:
            kinds: The keys that each has, and what is under them.
            numbers: The images; None means all.

        Raises:
            OtherRunError: When a file is damaged.
        """
        if self.names is None:
            files = {int(file.stem): file for file in sorted(self.folder.glob("[0-9]*.json"))}
        else:
            files = {number: self.file(number) for number in range(len(self.names))}
        for number, file in files.items():
            if (numbers is None or number in numbers) and file.exists():
                yield read_own(file, kinds, _REMOVE)

    def file(self, index: int) -> Path:
        """Return where what an image left behind is, if it is finished."""
        return self.folder / f"{f'{index:09d}' if self.names is None else digest([self.names[index]])}.json"


def require_same(output: Path, settings: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Check that a folder is that of the same run.

    Args:
        output: The folder.
        settings: What this run is.
        before: What the run is that made it.

    Raises:
        OtherRunError: When they differ; says in what.
    """
    changed = [
        _difference(key, settings.get(key), before.get(key))
        for key in sorted({*settings, *before})
        # Earlier versions did not write which weights they had.
        if settings.get(key) != before.get(key) and (key != "weights" or key in before)
    ]
    if changed:
        raise OtherRunError(
            f"{output} holds results of another run, and this one differs in {', '.join(changed)}: choose another "
            "folder, or remove that one."
        )


def _difference(key: str, now: Any, before: Any) -> str:
    """Say in what two runs differ; of lists, how long they are, and nothing of digests."""
    if key in _DIGESTS:
        return _DIGESTS[key]
    if isinstance(now, list) and isinstance(before, list):
        return f"{key} ({len(now)} now, {len(before)} before{'' if len(now) != len(before) else ', but others'})"
    return f"{key}={now!r} (before: {before!r})"


def digest(names: Sequence[str]) -> str:
    """Return a short text that differs for other names or another order."""
    return sha256("\n".join(names).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_own(file: Path, kinds: Mapping[str, type], remedy: str) -> dict[str, Any]:
    """Return what a file holds that an earlier run has written.

    Args:
        file: The file, with an object of JSON.
        kinds: The keys that it has, and what is under them.
        remedy: What messages advise.

    Raises:
        OtherRunError: When it is damaged.
    """
    try:
        content = read_json(file, "it")
    except ValueError as error:
        raise OtherRunError(f"{file} is damaged ({error}): {remedy}.") from error
    if not isinstance(content, dict):
        raise OtherRunError(f"{file} is damaged (it holds {shown(content)} and no object): {remedy}.")
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise OtherRunError(f"{file} is damaged ({key} is {shown(content.get(key))}): {remedy}.")
    return content
