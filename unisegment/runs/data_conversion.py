# SPDX-License-Identifier: Apache-2.0
"""Annotated images in, a data set in another format out: image by image, from where an earlier run stopped, checked.

Each image's own files are written, and what it leaves behind for the files of the whole last (see
`unisegment.runs.part_folder`). In the end the data set is read back as anybody would read it, and compared.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.export.format import Parts
from unisegment.data.formats import open_data_set
from unisegment.data.label_spaces import in_label_space
from unisegment.data.writing import ImageMode, find_writer
from unisegment.data.writing.data_set_writer import DataSetWriter, WrittenImage
from unisegment.data.writing.image_files import common_folder, image_file, stems_of, write_image
from unisegment.files import write_text
from unisegment.runs.conversion_check import PART_KINDS, Comparison
from unisegment.runs.folder_lock import locked
from unisegment.runs.part_folder import PartFolder, digest, read_own, require_same
from unisegment.structures import Sample

REPORT = "conversion.json"
"""The file in a finished folder that says what was converted, and what the format could not hold."""
_PARTS = "conversion.parts"
"""The folder for what images leave behind, until all are finished; no split, which may lie beside, is called so."""


def convert_data(
    splits: Mapping[str, AnnotatedImages],
    output: str | Path,
    to: str,
    *,
    source: str = "",
    images: ImageMode = "copy",
    workers: int = 0,
    skip_unreadable: bool = False,
) -> dict[str, Any]:
    """Write a data set in another format; stopped, the same call goes on, and gives the same files.

    One image is in memory at a time. Where the format has one segment for each pixel, smaller objects lie on larger
    ones. What the format cannot hold is left out and counted.

    Args:
        splits: Images of each split, by the name that it is to have, such as "train" and "val". The categories of the
            first one are those of all.
        output: Folder for the data set, new or empty.
        to: One of `unisegment.data.writing.WRITERS`.
        source: What the images are, in words; another source does not go on in the same folder.
        images: Whether image files are copied; linked, as hard links, or symbolic ones to another disk; or left where
            they are, where the format names them.
        workers: Processes that read and write.
        skip_unreadable: Leave out images that cannot be read; the next run tries them again. Otherwise they raise.

    Returns:
        `images`, the number of each split; `new`, how many of them this run has written; `left_out`, what is wrong with
        unreadable images; `lost`, how much the format cannot hold, by the keys of
        `unisegment.data.writing.data_set_writer.LOST`.

    Raises:
        OtherRunError: When the folder holds other files, or another conversion.
        ValueError: When there is no split or no such writer; when an image cannot be read or written, or differs when
            it is read back, which is named.
        WriteError: When something cannot be written; what is finished stays.
    """
    output = Path(output)
    writer_class = _writer_class(to, images)
    parts = _splits(splits, stay=images == "none")
    categories = parts[0].images.categories
    writer = writer_class(output, categories)
    settings = {
        "source": source,
        "format": to,
        "image_files": images,
        "splits": {split.name: len(split.images) for split in parts},
        "image_names": digest([name for split in parts for name in split.sources]),
        "categories": [[category.id, category.name, category.is_thing] for category in categories],
    }
    with locked(output):
        summary = _finished(output, settings)
        if summary is None:
            conversion = _Conversion(writer, parts, PartFolder(output / _PARTS), images, skip_unreadable)
            summary = conversion.run(settings, to, workers)
        if not summary["left_out"]:
            shutil.rmtree(output / _PARTS, ignore_errors=True)
    return summary


def _writer_class(to: str, images: ImageMode) -> type[DataSetWriter]:
    found = find_writer(to)
    if images == "none" and not found.places:
        raise ValueError(f"A data set of {to} has the images in its own folders: copy or link them.")
    return found


def _splits(images: Mapping[str, AnnotatedImages], stay: bool) -> "list[_Split]":
    if not images:
        raise ValueError("There is no split to convert.")
    first = next(iter(images))
    splits: list[_Split] = []
    for name, samples in images.items():
        matched = in_label_space(
            samples,
            images[first].categories,
            owners=(f"The split {first!r}", f"the split {name!r}"),
            advice="Name the split that has all labels first.",
        )
        splits.append(_Split(name, matched, stay, first=splits[-1].numbers.stop if splits else 0))
    return splits


def _finished(output: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what an earlier run has returned that finished the same conversion; None where none has."""
    report = output / REPORT
    if not report.is_file():
        return None
    kinds = {"settings": dict, "images": dict, "lost": dict}
    before = read_own(report, kinds, f"choose another folder, or remove {output}")
    require_same(output, settings, before["settings"])
    return {"images": before["images"], "lost": before["lost"], "new": 0, "left_out": []}


class _Split:
    """The images of a split, and what their files are called.

    Args:
        name: Name of the split.
        images: The images.
        stay: Whether their files stay where they are, in `folder`.
        first: Number of the first image among those of all splits.
    """

    def __init__(self, name: str, images: AnnotatedImages, stay: bool, first: int) -> None:
        self.name = name
        self.images = images
        self.numbers = range(first, first + len(images))
        self.files = [image_file(images, place) for place in range(len(images))]
        self.stems = stems_of(self.files)
        self.folder: Path | None = None
        if stay:
            found = [file for file in self.files if file is not None]
            if len(found) < len(self.files):
                raise ValueError(
                    f"Images of the split {name!r} are no files that could stay where they are: copy them."
                )
            self.folder = common_folder(found)

    @property
    def sources(self) -> list[str]:
        """What each image is, to find out whether it is the same conversion."""
        return [stem if file is None else str(file) for stem, file in zip(self.stems, self.files, strict=True)]


@dataclass
class _Conversion(Dataset[str | None]):
    """The images of all splits, each written when it is asked for by its number; gives what is wrong with it."""

    writer: DataSetWriter
    splits: Sequence[_Split]
    parts: PartFolder
    mode: ImageMode
    skip_unreadable: bool

    def run(self, settings: Mapping[str, Any], to: str, workers: int) -> dict[str, Any]:
        """Write what is left to do, read all back, and return what `convert_data` does."""
        todo = self.parts.begin(settings, self.splits[-1].numbers.stop)
        left_out = _each(self, todo, workers, "convert")
        summary = self._finish()
        for split in self.splits:
            self._check(split, to, workers)
        if not left_out:
            write_text(self.writer.place(REPORT), json.dumps({"settings": settings, **summary}, indent=2) + "\n")
        return summary | {"new": len(todo) - len(left_out), "left_out": left_out}

    def __getitem__(self, number: int) -> str | None:
        split = next(split for split in self.splits if number in split.numbers)
        place = number - split.numbers.start
        try:
            sample = split.images[place]
        except (ValueError, OSError) as error:
            if not self.skip_unreadable:
                raise
            return str(error)
        file = self._image_file(split, place, sample)
        image = WrittenImage(
            sample.image_id, split.stems[place], file.relative_to(self._folder(split)).as_posix(), sample.size
        )
        try:
            target, lost = self.writer.fitted(sample.target)
            content = self.writer.write(split.name, image, target)
        except ValueError as error:
            raise ValueError(f"{sample.file_name} cannot be written: {error}") from error
        own = {"file_name": image.file_name, "segments": self.writer.summary(target), "lost": lost}
        self.parts.write(number, own | content)
        return None

    def _folder(self, split: _Split) -> Path:
        """Return where the image files of a split are in the end."""
        return split.folder or self.writer.place(self.writer.image_folder.format(split=split.name))

    def _image_file(self, split: _Split, place: int, sample: Sample) -> Path:
        """Return the file of an image, which is written unless it stays where it is."""
        file = split.files[place]
        if self.mode == "none":
            assert file is not None
            return Path(os.path.abspath(file))
        stem = self.writer.place(f"{self.writer.image_folder.format(split=split.name)}/{split.stems[place]}")
        source = split.images.stored_bytes(place) if file is None else file
        return write_image(sample, source, split.images.reading, stem, self.mode)

    def _parts(self, split: _Split) -> Parts:
        kinds = {**PART_KINDS, **self.writer.part_kinds}
        return lambda: self.parts.read(kinds, split.numbers)

    def _finish(self) -> dict[str, Any]:
        """Write what images have in common, and return how many there are, and how much is lost."""
        images, lost = dict[str, int](), Counter[str]()
        for split in self.splits:
            images[split.name] = 0
            for part in self._parts(split)():
                images[split.name] += 1
                lost.update(part["lost"])
            if not images[split.name]:
                raise ValueError(f"None of the images of the split {split.name!r} can be read.")
            self.writer.finish(split.name, self._parts(split))
        self.writer.close([*images])
        return {"images": images, "lost": dict(lost)}

    def _check(self, split: _Split, to: str, workers: int) -> None:
        """Read a split back.

        Raises:
            ValueError: When it is not what was to be written.
        """
        places: dict[str, Any] = {}
        if split.folder is not None:
            own = {role: path.format(split=split.name) for role, path in self.writer.places.items()}
            places = {role: {split.name: path} for role, path in {**own, "images": str(split.folder)}.items()}
        images = open_data_set(self.writer.output, to, split.name, **places)
        finished = [number for number in split.numbers if self.parts.file(number).exists()]
        if len(images) != len(finished):
            raise ValueError(
                f"{self.writer.output}: {len(finished)} images of {split.name!r} were written, but {len(images)} are "
                "read back."
            )
        comparison = Comparison(self.writer, self.parts, self._folder(split), images)
        differences = _each(comparison, finished, workers, "read back")
        if differences:
            more = f" {len(differences) - 1} other images differ, too." if len(differences) > 1 else ""
            remedy = f" Remove {self.writer.output} and convert again; if that does not help, please report it."
            raise ValueError(differences[0] + more + remedy)


def _each(work: Dataset[str | None], numbers: Sequence[int], workers: int, description: str) -> list[str]:
    """Do a work for each of some numbers, in other processes if there are workers, and return what is wrong."""
    # Without a batch, so that each result comes as it is.
    results = DataLoader(work, sampler=numbers, batch_size=None, num_workers=workers, collate_fn=_as_it_is)
    bar = tqdm(results, description, total=len(numbers), unit=" images", disable=None)
    return [problem for problem in bar if problem is not None]


def _as_it_is(result: Any) -> Any:
    return result
