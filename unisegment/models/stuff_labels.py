# SPDX-License-Identifier: Apache-2.0
"""The names of a model's labels, and whatever knows which labels are stuff, in; those that are stuff out."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from unisegment.data.categories import stuff_label_ids
from unisegment.data.label_spaces import follow_names


def find_stuff(
    id2label: Mapping[int, str],
    categories: Sequence[Mapping[str, Any]] | None = None,
    written: Collection[int] | None = None,
    written_for: Mapping[int, str] | None = None,
) -> list[int] | None:
    """Return which labels are stuff: as a processor's file says, else as the model's config says, else by their names.

    The first two were written for certain labels, and follow these by name.

    Args:
        id2label: Name of each label.
        categories: What the model's config says, its `categories`.
        written: What the processor's file says, its `stuff_label_ids`.
        written_for: Names of the labels that the file means; None means `id2label`.

    Returns:
        The labels that are stuff, or None when nothing says so. Where all labels of the file were things, new ones are.

    Raises:
        ValueError: When the file means other labels than these, and nothing else knows them.
    """
    names = _in_order(id2label)
    for old, stuff in _sources(categories, written, names if written_for is None else _in_order(written_for)):
        rows = follow_names(old, names)
        if None not in rows:
            return [label for label, row in enumerate(rows) if row in stuff]
    recognised = stuff_label_ids(id2label)
    if recognised is not None or not written:
        return recognised if recognised is not None or written is None else []
    raise ValueError(
        f"Which of {', '.join(names[:20])}{', …' if len(names) > 20 else ''} are stuff? The image processor has "
        f"stuff_label_ids={_short(written)} for other labels. Open it with stuff_label_ids=[…], the numbers of those "
        "that are stuff, or [] for none, and save it with the model."
    )


def _sources(
    categories: Sequence[Mapping[str, Any]] | None, written: Collection[int] | None, written_for: list[str]
) -> Iterator[tuple[list[str], set[int]]]:
    if written is not None and max(written, default=-1) < len(written_for):
        yield written_for, set(written)
    if categories is not None:
        is_stuff = {label for label, entry in enumerate(categories) if not entry["isthing"]}
        yield [entry["name"] for entry in categories], is_stuff


def _in_order(id2label: Mapping[int, str]) -> list[str]:
    return [id2label[label] for label in sorted(id2label)]


def _short(labels: Collection[int]) -> str:
    first = ", ".join(map(str, sorted(labels)[:5]))
    return f"[{first}{', …' if len(labels) > 5 else ''}]"
