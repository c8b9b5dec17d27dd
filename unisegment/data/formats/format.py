# SPDX-License-Identifier: Apache-2.0
"""What a format is, as data: where its files lie, what opens them, and what can be learned from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # torch: seconds, which nobody waits for who only asks for names
    from unisegment.data.annotated_images import AnnotatedImages

SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "Train"),
    "val": ("val", "valid", "validation", "Validation", "dev", "test", "Test"),
}
"""What data sets call the two splits of training, the first that is there; other names are meant as they are."""


_LONG_NAMES = {"train": "training", "val": "validation"}


class Found(NamedTuple):
    """A split that was found in a folder.

    Args:
        root: The folder; a name or address where the format knows such.
        split: What the data set calls the split.
        parts: The path of each part, by its role; those with `*` are patterns.
        settings: Keywords of the reader that go with the layout.
    """

    root: str | Path
    split: str
    parts: Mapping[str, Path] = {}
    settings: Mapping[str, Any] = {}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the parts of a split lie in a folder.

    Args:
        parts: Path of each part relative to the folder, by its role. `{split}` is the name of the split, and `*` means
            that at least one path is of this form. `{long_split}` is "training" for "train" and "validation" for "val".
            The role `sign` is for what only tells the layout. Without `{split}`, the data set has no splits: all of it
            is "train".
        settings: Keywords of the reader that go with the layout.
    """

    parts: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_splits(self) -> bool:
        """Whether the split is part of a path."""
        return any("split}" in path for path in self.parts.values())

    def names_of(self, split: str) -> tuple[str, ...]:
        """Return what the layout may call a split."""
        if self.has_splits:
            return SPLIT_NAMES.get(split, (split,))
        return ("train",) if split == "train" else ()

    def paths(self, name: str) -> list[str]:
        """Return the paths of the parts of a split, by the name that the layout calls it."""
        return [_filled(path, name) for path in self.parts.values()]

    def lacking(self, root: Path, name: str) -> list[str]:
        """Return the paths that are not in a folder."""
        return [
            path for path in self.paths(name) if not (any(root.glob(path)) if "*" in path else (root / path).exists())
        ]

    def find(self, root: Path, split: str) -> Found | None:
        """Return a split of a folder; None where the folder has no such layout, or no such split."""
        for name in self.names_of(split):
            if not self.lacking(root, name):
                parts = {role: root / _filled(path, name) for role, path in self.parts.items()}
                return Found(root, name, parts, self.settings)
        return None


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of data sets.

    Args:
        name: What recipes and commands call it.
        summary: What it is, in a line, for lists of formats.
        layouts: Where its files may lie; the first that a folder has counts.
        open: Takes what was found of a split, and `problems`, `void_ids` and `options` as keywords; returns its images.
        tasks: What can be learned and evaluated on it: of panoptic, instance and semantic.
        labels: Where the names of its categories come from.
        options: Further keywords of `open`.
        sniff: Looks into what was found, where layouts of several formats are alike: whether it is of this one.
        splits: Names the splits of a folder that lists them itself; these go before those of layouts.
        data_set: Name of the data set, where the format is that of a single one.
        is_folder: Whether data sets are folders, and not also names and addresses that the format knows.
        is_guessed: Whether a folder may be taken for it without being told.
    """

    name: str
    summary: str
    layouts: Sequence[Layout] = ()
    open: "Callable[..., AnnotatedImages]"
    tasks: tuple[str, ...]
    labels: str
    options: frozenset[str] = frozenset()
    sniff: Callable[[Found], bool] | None = None
    splits: Callable[[Path], Sequence[str]] | None = None
    data_set: str | None = None
    is_folder: bool = True
    is_guessed: bool = True

    @property
    def roles(self) -> frozenset[str]:
        """Roles of the parts that every layout has."""
        return frozenset.intersection(*(frozenset(layout.parts) for layout in self.layouts))

    def find(self, root: Path, split: str) -> Found | None:
        """Return a split of a folder; None where the folder has no layout of the format, or no such split."""
        there = () if self.splits is None else self.splits(root)
        name = next((name for name in SPLIT_NAMES.get(split, (split,)) if name in there), None)
        if name is not None:
            return Found(root, name)
        return next((found for layout in self.layouts if (found := layout.find(root, split)) is not None), None)

    def fits(self, root: Path, splits: Sequence[str]) -> bool:
        """Tell whether a folder has one of some splits in this format, or a data set without splits."""
        for split in dict.fromkeys((*splits, "train")):
            found = self.find(root, split)
            if found is not None and (split in splits or not self.has_splits(root)):
                return self.sniff is None or self.sniff(found)
        return False

    def has_splits(self, root: Path) -> bool:
        """Tell whether a folder divides its images into splits; otherwise all of them are "train"."""
        if self.splits is not None and self.splits(root):
            return True
        found = next((layout for layout in self.layouts if layout.find(root, "train") is not None), None)
        return found is None or found.has_splits

    def describe(self, split: str) -> str:
        """Return what a folder must hold of a split, in words."""
        return "; or ".join(
            ", ".join(layout.paths((layout.names_of(split) or ("train",))[0])) for layout in self.layouts
        )


def _filled(path: str, name: str) -> str:
    return path.format(split=name, long_split=_LONG_NAMES.get(name, name))
