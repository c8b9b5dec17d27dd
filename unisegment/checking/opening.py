# SPDX-License-Identifier: Apache-2.0
"""One part of a data set in, its reader and the files of its samples out, and what stands against opening it.

What a reader refuses as a whole does not end the check: the files are listed without it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unisegment.data.annotated_images import AnnotatedImages, ImagesOfAnother, SampleFiles
from unisegment.data.formats import FORMATS, find_split
from unisegment.data.formats.format import Found
from unisegment.data.problems import CollectedProblems, DataError
from unisegment.data.reading.image_reading import ImageReading
from unisegment.data.reading.label_maps import images_under
from unisegment.data.splitting import part_of_split
from unisegment.runs.data_opening import open_split
from unisegment.runs.data_recipe import DataRecipe


@dataclass(frozen=True)
class Part:
    """One split of a data set.

    Args:
        data: What a recipe says about the data set.
        split: Name of the split.
        given_name: How reports call it; None is its folder and split.
        top_k: Most objects that predictions of an image have.
    """

    data: DataRecipe
    split: str
    given_name: str | None = None
    top_k: int = 100

    @property
    def name(self) -> str:
        """How reports call it."""
        return self.given_name or f"{self.data.root}: {self.split}"

    @property
    def reading(self) -> ImageReading:
        """How its images are read."""
        return ImageReading(self.data.exif, self.data.range)


@dataclass(frozen=True)
class OpenedPart:
    """What can be read of a part.

    Args:
        part: The part.
        samples: Its reader; None if it cannot be opened.
        unopened: The images that are looked at where it cannot be opened.
    """

    part: Part
    samples: AnnotatedImages | None
    unopened: Sequence[Path] = ()

    def __len__(self) -> int:
        return len(self.unopened) if self.samples is None else len(self.samples)

    @property
    def reader(self) -> AnnotatedImages | None:
        """What reads the samples, which may be a part of its own."""
        reader = self.samples
        while isinstance(reader, ImagesOfAnother):
            reader = reader.images
        return reader

    def name_of(self, index: int) -> str:
        """Return how reports call a sample: its image file, or its number where it has none."""
        entry = self.files(index)
        return f"{self.part.name}[{index}]" if entry is None else str(entry.image)

    def files(self, index: int) -> SampleFiles | None:
        """Return the files of a sample; None where its image is no file of its own."""
        return SampleFiles(self.unopened[index]) if self.samples is None else self.samples.files(index)


def open_part(part: Part, findings: CollectedProblems) -> OpenedPart:
    """Open a part as training does, and note what is wrong with it as a whole."""
    try:
        found = find_part(part)
    except FileNotFoundError as error:
        findings.add(_kind_of_missing(part), part.data.root, _without(part.data.root, error))
        return OpenedPart(part, None)
    samples = _try(lambda: open_split(part.data, part.split, findings), part.name, findings)
    if samples is not None and len(samples) == 0:
        findings.add("no-images", part.name, "the data set has no images")
    unopened = images_under(found.parts["images"]) if samples is None and "images" in found.parts else ()
    return OpenedPart(part, samples, sorted(unopened))


def _kind_of_missing(part: Part) -> str:
    root, known = Path(part.data.root), FORMATS[part.data.format]
    is_whole = part.split == "val" and root.is_dir() and known.find(root, "train") and not known.has_splits(root)
    return "nothing-held-out" if is_whole else "no-data"


def find_part(part: Part) -> Found:
    """Return the files of a part.

    Raises:
        FileNotFoundError: When they are missing.
        ValueError: When places that are given do not fit.
    """
    data = part.data
    whole, _ = part_of_split(part.split, data.splits, data.val_share, data.split_seed)
    places = {"annotations": data.annotations, "images": data.images, "segments": data.segments}
    return find_split(data.root, FORMATS[data.format], whole, places)


def _try(
    open_reader: Callable[[], AnnotatedImages], name: Path | str, findings: CollectedProblems
) -> AnnotatedImages | None:
    try:
        return open_reader()
    except DataError as error:
        findings.extend([error.problem])
    except (ValueError, OSError) as error:
        kind = "no-data" if isinstance(error, FileNotFoundError) else "not-opened"
        findings.add(kind, name, _without(name, error))
    except Exception as error:
        findings.add("unexpected-exception", name, f"{type(error).__name__}: {error}")
    return None


def _without(name: Path | str, error: Exception) -> str:
    """Return what an error says, without the name of the file that stands before it in reports."""
    return str(error).removeprefix(f"{name}: ").removeprefix(f"{name} ")
