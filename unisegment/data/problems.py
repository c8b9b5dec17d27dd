# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a data set, each kind with a name of its own, and where readers tell it.

An error is what training stops at, or leaves out where it is asked to (`data.on_error=skip`). A warning is what
training accepts, but what somebody should have looked at. One text serves them all: that of the `Problem`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

Severity = Literal["error", "warning"]

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the image."""


class Kind(NamedTuple):
    """How much a kind of problem matters, and what it means."""

    severity: Severity
    meaning: str


KINDS: Mapping[str, Kind] = {
    # The data set as a whole
    "no-data": Kind("error", "The data set, or a part that training needs, is not there."),
    "not-opened": Kind("error", "The data set cannot be opened: this is what training would say."),
    "no-images": Kind("error", "There is nothing to learn from."),
    "unexpected-exception": Kind(
        "error", "Reading failed in a way that unisegment does not foresee: please report it."
    ),
    "too-slow": Kind("error", "An image took longer than the time allowed; it was given up."),
    "process-died": Kind(
        "error", "The process that opened an image died, of too little memory or of a broken library."
    ),
    # Annotation files
    "broken-json": Kind("error", "The file is not valid JSON."),
    "wrong-structure": Kind("error", "The file, or an entry in it, is not in the format."),
    "duplicate-category-id": Kind("error", "Several categories have one id."),
    "duplicate-category-name": Kind("warning", "Several categories have one name: results cannot tell them apart."),
    "category-not-learned": Kind("error", "A part for evaluation has a category that the part for training lacks."),
    "categories-differ": Kind(
        "warning", "Parts list a category with another name, id or kind, or one lacks it: names decide, as in training."
    ),
    "unused-category": Kind("warning", "No image shows this category."),
    "duplicate-image-id": Kind("error", "Several images have one id: what belongs to which cannot be known."),
    "duplicate-image-name": Kind("warning", "Several entries name one image file."),
    "duplicate-annotation-id": Kind("warning", "Several annotations have one id. Training does not use it; tools do."),
    "unknown-category": Kind("error", "A category is used that the category table does not list."),
    "unknown-image": Kind("error", "An image is annotated that is not listed."),
    "unannotated-image": Kind("warning", "A listed image has no annotation."),
    "duplicate-annotation": Kind("warning", "An object, or an image, is annotated twice in the same way."),
    "empty-annotation": Kind("warning", "An annotation has no shape; it is left out."),
    "degenerate-polygon": Kind("warning", "A polygon has fewer than three points or no area; it is left out."),
    "bad-polygon": Kind(
        "error",
        "A polygon has an odd number of coordinates, or some that are not finite or further outside than the image is "
        "large.",
    ),
    "outside-image": Kind("warning", "A polygon reaches out of its image; what is outside is cut off."),
    "bad-run-lengths": Kind("error", "Run lengths are broken, or do not add up to the pixels of their size."),
    "bad-bitmap": Kind("error", "A bitmap of an object cannot be decoded, or does not lie in its image."),
    "wrong-run-length-size": Kind("error", "Run lengths are of another size than the image."),
    "odd-iscrowd": Kind("error", "`iscrowd` is neither 0 nor 1, and neither false nor true."),
    "odd-isthing": Kind("error", "`isthing` is neither 0 nor 1, and neither false nor true."),
    "nothing-to-learn": Kind("error", "No image has a segment that is no crowd: there is nothing to learn."),
    "nothing-to-evaluate": Kind("warning", "No image has a segment that is no crowd: there will be no scores."),
    "box-disagrees": Kind("warning", "`bbox` is not around the shape. Training uses the shape alone."),
    "area-disagrees": Kind("warning", "`area` is not that of the shape. Training uses the shape alone."),
    "duplicate-segment-id": Kind("error", "An image lists a segment id more than once."),
    # Files
    "missing-image": Kind("error", "An image is listed, but there is no such file."),
    "missing-label-map": Kind("error", "The PNG file of an image is missing."),
    "same-name-images": Kind("error", "Two images have one name: which of them the PNG file belongs to is unknown."),
    "not-a-file": Kind("error", "Where a file should be there is a folder or something else."),
    "folder-named-as-image": Kind("warning", "A folder is named as an image; it is passed over."),
    "empty-file": Kind("error", "The file has no bytes."),
    "unreadable-file": Kind("error", "The file cannot be opened."),
    "not-an-image": Kind("error", "The file is no image, or its beginning is broken."),
    "truncated-image": Kind("error", "The image ends too early: fetch or copy it again."),
    "broken-image": Kind("error", "The image cannot be decoded."),
    "too-large-image": Kind("error", "The image claims more pixels than Pillow is willing to decode."),
    "wrong-size": Kind("error", "Image and annotation disagree about height and width."),
    "exif-rotated": Kind("error", "The image is turned by its EXIF data, and its annotation is not, or the reverse."),
    "exif-turned": Kind(
        "warning",
        "EXIF data turn the image upside down, mirror it, or turn a square: see whether the annotation is turned, too; "
        "if not, set data.exif=stored.",
    ),
    "ending-disagrees": Kind("warning", "The file is of another format than its name says."),
    "unusual-image": Kind("warning", "The image has more, or other, than red, green and blue of 8 bits."),
    "few-levels": Kind("warning", "Nearly all levels of an image of 16 bits are lost: set data.range."),
    "nothing-held-out": Kind("warning", "The data set has no splits: training needs data.val_share or data.splits."),
    "unlisted-image": Kind("warning", "An image lies in the folder, but is not part of the data set."),
    "unlisted-label-map": Kind("warning", "A PNG file lies in the folder, but belongs to no image."),
    "duplicate-image": Kind("warning", "Several images have the same content."),
    "leak": Kind("warning", "The same image is in several parts: scores on it say nothing."),
    "same-name": Kind("warning", "Images of several parts have one name, with different content."),
    # Label maps and samples
    "label-map-channels": Kind("error", "The channels of a PNG file are not those that its format wants."),
    "lossy-label-map": Kind("error", "The labels went through JPEG, which changes numbers."),
    "unknown-id": Kind("error", "Pixels have numbers that belong to no category."),
    "unlisted-segment": Kind("error", "Pixels have a segment id that the annotations do not list."),
    "undrawn-segment": Kind("error", "A segment is listed, but has no pixel."),
    "id-too-large": Kind("error", "An id is listed that the PNG file cannot hold."),
    "category-too-large": Kind("warning", "A category has an id that the PNG files cannot hold: no pixel can show it."),
    "two-numbers": Kind("warning", "The maps hold two numbers, of which one is void; it may be a class."),
    "blended-labels": Kind("warning", "Borders hold numbers in between: the labels were resized or smoothed."),
    "nothing-labelled": Kind("warning", "No pixel is labelled."),
    "mostly-unlabelled": Kind("warning", "More than half of the pixels are unlabelled."),
    "invisible-annotation": Kind("warning", "Objects cover no pixel; they are left out."),
    "many-objects": Kind(
        "warning", "An image has more objects than predictions have: raise evaluation.top_k, and queries to match."
    ),
    "unreadable-sample": Kind("error", "Image and annotation cannot be read together."),
}
"""Every kind of problem."""


_MISSING = frozenset(("no-data", "missing-image", "missing-label-map"))
"""Kinds of which something is not there."""


class Problem(NamedTuple):
    """One thing that is wrong; as text, `file: detail`.

    Args:
        kind: One of `KINDS`.
        file: The file in which it can be corrected.
        detail: Which value, what was expected, how to correct it.
        image: The image that it is about, where `file` may be another one, or about many images.
        box: Where in the image it is.
    """

    kind: str
    file: str
    detail: str
    image: str | None = None
    box: Box | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.detail}"

    @property
    def severity(self) -> Severity:
        """Whether training stops at it."""
        return KINDS[self.kind].severity

    def error(self) -> "DataError":
        """Return the exception that says so."""
        return (MissingDataError if self.kind in _MISSING else DataError)(self)


class DataError(ValueError):
    """A data set, or a sample of it, that cannot be read.

    Args:
        problem: What is wrong.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem

    def __reduce__(self) -> tuple[type["DataError"], tuple[Problem]]:
        return type(self), (self.problem,)


class MissingDataError(DataError, FileNotFoundError):
    """A file of a data set that is not there."""


class Problems:
    """Where readers tell what is wrong. This one raises at the first error, and passes over warnings."""

    thorough = False
    """Whether warnings are wanted that take time to find."""

    def add(
        self, kind: str, file: Path | str, detail: str, image: Path | str | None = None, box: Box | None = None
    ) -> None:
        """Tell one problem; see `Problem`. Where this returns, the reader leaves out what the problem is about.

        Raises:
            DataError: Of this class, at an error.
        """
        self.extend([Problem(kind, str(file), detail, None if image is None else str(image), box)])

    def extend(self, problems: Iterable[Problem]) -> None:
        """Tell several problems."""
        for problem in problems:
            if problem.severity == "error":
                raise problem.error()


class CollectedProblems(Problems):
    """All problems counted, and the first of each kind kept.

    Args:
        listed: How many of each kind are kept.
        thorough: Whether warnings are wanted that take time to find.
    """

    def __init__(self, listed: int = 100, *, thorough: bool = False) -> None:
        self.thorough = thorough
        self._listed = listed
        self._count: dict[str, int] = {}
        self._kept: dict[str, list[Problem]] = {}

    def extend(self, problems: Iterable[Problem]) -> None:
        """Note several problems."""
        for problem in problems:
            count = self._count[problem.kind] = self._count.get(problem.kind, 0) + 1
            if count <= self._listed:
                self._kept.setdefault(problem.kind, []).append(problem)

    def count(self, severity: Severity) -> int:
        """Return how many there are of a severity."""
        return sum(count for kind, count in self._count.items() if KINDS[kind].severity == severity)

    @property
    def listed(self) -> Mapping[str, Sequence[Problem]]:
        """The problems that are kept, by their kind."""
        return self._kept

    def errors(self) -> list[Problem]:
        """Return the errors that are kept, kind by kind."""
        return [problem for kind, kept in self._kept.items() if KINDS[kind].severity == "error" for problem in kept]

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return one dict for each kind that was found, errors first, in the order of `KINDS`."""
        kinds = sorted((kind for kind in KINDS if kind in self._count), key=lambda kind: KINDS[kind].severity)
        return [
            {
                "kind": kind,
                "severity": KINDS[kind].severity,
                "meaning": KINDS[kind].meaning,
                "count": self._count[kind],
                "listed": [{"file": problem.file, "detail": problem.detail} for problem in self._kept[kind]],
            }
            for kind in kinds
        ]
