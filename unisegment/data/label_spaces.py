# SPDX-License-Identifier: Apache-2.0
"""Two lists of labels in, which label of one is which of the other out; and a data set with the labels of another list.

A label is a place in a list of categories, so the same number means different things in two lists: in the files of two
splits, in a checkpoint and a data set, in a run and the data that it goes on with. Names tell which are the same.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import get_args

import torch

from unisegment.data.annotated_images import AnnotatedImages, ImagesOfAnother
from unisegment.data.categories import label_key, label_spelling
from unisegment.data.choices import Matching
from unisegment.structures import Category, Sample

_SHOWN = 20


def match_names(known: Sequence[str], wanted: Sequence[str]) -> list[int | None]:
    """Return the place among the known names of each wanted one; None where it is not known, or not for certain.

    A name that is written in the same way goes first. Others are the same if their spelling without case and signs is,
    or else their `label_key`, and no other name on either side has it. So no two wanted names get one place.

    Args:
        known: Names; of equal ones the first is the first equal one that is wanted, and so on.
        wanted: Names to look for.
    """
    free = defaultdict(list)
    for place, name in enumerate(known):
        free[name].append(place)
    places = [free[name].pop(0) if free[name] else None for name in wanted]
    for form in (label_spelling, label_key):
        known_forms, wanted_forms = [*map(form, known)], [*map(form, wanted)]
        is_certain = _once(known_forms) & _once(wanted_forms)
        for index, key in enumerate(wanted_forms):
            if places[index] is None and key in is_certain:
                places[index] = known_forms.index(key)
    return places


def follow_names(old: Sequence[str], new: Sequence[str]) -> list[int | None]:
    """Return the place in an older list of labels that each label of a newer list had; None for a new one.

    As `match_names`, but that names of the form LABEL_0 say nothing: where the old list has only those and is as long
    as the new one, the new names are those of the old labels.
    """
    if len(old) == len(new) and list(old) == [f"LABEL_{label}" for label in range(len(old))]:
        return list(range(len(new)))
    return match_names(old, new)


def match_labels(
    known: Mapping[int, str],
    wanted: Mapping[int, str],
    matching: Matching = "name",
    *,
    owners: tuple[str, str] = ("The checkpoint", "the data set"),
    advice: str = "Take the data set that it was trained for, or, if its labels are the same in the same order, match "
    "them by order.",
) -> dict[int, int]:
    """Return the known label for each label of a data set.

    Args:
        known: Name of each known label, 0 and following; there may be more of them than in the data set.
        wanted: Name of each label of the data set, 0 and following.
        matching: By name, whatever the order, see `match_names`; or by number alone.
        owners: What messages call the two.
        advice: What messages say last.

    Raises:
        ValueError: When there is no such `matching`; when a name of the data set is not known, with both lists; or, by
            number, when the lists are of different lengths.
    """
    if matching not in get_args(Matching):
        raise ValueError(f"matching must be one of {', '.join(get_args(Matching))}, got {matching!r}.")
    if matching == "order":
        if len(known) != len(wanted):
            raise ValueError(
                f"{owners[0]} has {len(known)} labels and {owners[1]} {len(wanted)}: they cannot be the same by their "
                "order."
            )
        return {label: label for label in wanted}
    places = match_names([known[label] for label in range(len(known))], [wanted[label] for label in range(len(wanted))])
    missing = [wanted[label] for label, place in enumerate(places) if place is None]
    if missing:
        raise ValueError(
            f"{owners[0]} lacks {len(missing)} of the {len(wanted)} labels of {owners[1]}: {_listed(missing, 5)}. "
            f"{owners[0]} has {_listed(known.values())}; {owners[1]} has {_listed(wanted.values())}. {advice}"
        )
    return {label: place for label, place in enumerate(places) if place is not None}


class MatchedSamples(ImagesOfAnother):
    """Annotated images with the labels of another list of categories.

    Args:
        samples: The images.
        categories: The other list.
        new_labels: The label in it of each label of the images.
        limit: Most images, the first ones.
    """

    def __init__(
        self,
        samples: AnnotatedImages,
        categories: list[Category],
        new_labels: Mapping[int, int],
        limit: float = math.inf,
    ) -> None:
        super().__init__(samples, categories)
        self.block_bounds = samples.block_bounds
        self._limit = limit
        self._new_labels = torch.tensor([new_labels[label] for label in range(len(new_labels))], dtype=torch.int64)

    def __len__(self) -> int:
        return int(min(len(self.images), self._limit))

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image."""
        sample = self.images[index]
        return replace(sample, target=replace(sample.target, labels=self._new_labels[sample.target.labels]))

    def labels_in(self, index: int) -> set[int]:
        """Return the labels of which an image has a segment that is no crowd."""
        return {*self._new_labels[[*self.images.labels_in(index)]].tolist()}


def in_label_space(
    samples: AnnotatedImages, categories: list[Category], *, owners: tuple[str, str], advice: str
) -> AnnotatedImages:
    """Return annotated images with the labels of a list of categories, by name; the same object if it has them.

    Args:
        samples: The images.
        categories: The list.
        owners: What messages call the list and the images.
        advice: What messages say last.

    Raises:
        ValueError: When a category of the images is not in the list.
    """
    known, wanted = ([category.name for category in items] for items in (categories, samples.categories))
    if known == wanted:
        return samples
    new_labels = match_labels(dict(enumerate(known)), samples.id2label, owners=owners, advice=advice)
    return MatchedSamples(samples, categories, new_labels)


def _once(forms: Sequence[str]) -> set[str]:
    return {form for form, count in Counter(forms).items() if count == 1}


def _listed(names: Iterable[str], shown: int = _SHOWN) -> str:
    names = list(names)
    return ", ".join(map(repr, names[:shown])) + (f" and {len(names) - shown} more" if len(names) > shown else "")
