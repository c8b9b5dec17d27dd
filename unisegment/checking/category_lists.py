# SPDX-License-Identifier: Apache-2.0
"""The categories of the parts of a data set in, where those of evaluation differ from those of training out."""

from collections.abc import Iterator, Sequence

from unisegment.checking.opening import OpenedPart
from unisegment.data.label_spaces import match_names
from unisegment.data.problems import CollectedProblems
from unisegment.structures import Category


def note_category_lists(parts: Sequence[tuple[OpenedPart, CollectedProblems]]) -> None:
    """Compare the categories of each part with those of the split "train" of its data set, as training does."""
    for opened, findings in parts:
        of_data = (part for part, _ in parts if part.part.data == opened.part.data)
        learned = next((part for part in of_data if part.part.split == "train"), None)
        if learned is None or learned.samples is None or opened.samples is None:
            continue
        file = getattr(opened.samples, "annotation_file", opened.part.name)
        there, here = learned.samples.categories, opened.samples.categories
        places = match_names([item.name for item in there], [item.name for item in here])
        for category, place in zip(here, places, strict=True):
            if place is None:
                names = ", ".join(item.name for item in there)
                detail = f"{category.name} (id {category.id}): {learned.part.name} has {names}"
                findings.add("category-not-learned", file, detail)
        known = [None if place is None else there[place] for place in places]
        for detail in _differences(here, known, [item for item in there if item not in known]):
            findings.add("categories-differ", file, f"{detail} in {learned.part.name}")


def _differences(here: list[Category], there: list[Category | None], others: list[Category]) -> Iterator[str]:
    for category, other in zip(here, there, strict=True):
        if other is not None:
            found, expected = (
                f"{item.name} (id {item.id}, {'thing' if item.is_thing else 'stuff'})" for item in (category, other)
            )
            if found != expected:
                yield f"{found} is {expected}"
    for other in others:
        yield f"there is no {other.name} (id {other.id}), which is a category"
