# SPDX-License-Identifier: Apache-2.0
"""Names of a model's labels in, the categories of the data set that they are from out."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from unisegment.data.annotated_images import category_of_entry
from unisegment.data.categories import label_names
from unisegment.data.label_spaces import match_names
from unisegment.structures import Category

_GREY = (128, 128, 128)
_COCO_THINGS = sorted({*range(1, 91)} - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
_COCO_STUFF = """
    92 93 95 100 107 109 112 118 119 122 125 128 130 133 138 141 144 145 147 148 149 151 154 155 156 159 161 166 168
    171 175 176 177 178 180 181 184 185 186 187 188 189 190 191 192 193 194 195 196 197 198 199 200
"""
_IDS: Mapping[str, list[int]] = {
    "coco_panoptic": [*_COCO_THINGS, *map(int, _COCO_STUFF.split())],
    "cityscapes": [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33],
    "ade20k": [*range(1, 151)],
}
"""Ids of each data set's labels in its own files, in the order of `unisegment.data.categories`.

Mapillary Vistas is none of them: it numbers its labels from 0 in label files and from 1 in panoptic ones.

Source: the categories of panoptic_val2017.json; cityscapesScripts, labels.py; ADEChallengeData2016, objectInfo150.txt.
"""


def categories_of_labels(
    id2label: Mapping[int, str],
    stuff_label_ids: Collection[int],
    categories: Sequence[Mapping[str, Any]] | None = None,
) -> list[Category]:
    """Return the category of each label, with the id that the data set has for it.

    Ids are those of the model's own data set where it knows it. Otherwise labels whose names are all known in COCO,
    else in Cityscapes, else in ADE20K, get the ids of that; the others are numbered from 1, since 0 often means void.

    Args:
        id2label: Name of each label, 0 and following.
        stuff_label_ids: Labels that are stuff.
        categories: `categories` of the model's config; of no account where it lacks a name.
    """
    names = [id2label[label] for label in range(len(id2label))]
    own = [] if categories is None else [category_of_entry(entry) for entry in categories]
    found = (
        _ids_of(names, [category.name for category in own], [category.id for category in own]),
        *(known_ids(names, source) for source in _IDS),
    )
    ids = next(filter(None, found), [*range(1, len(names) + 1)])
    return [
        Category(number, name, label not in stuff_label_ids, _GREY)
        for label, (number, name) in enumerate(zip(ids, names, strict=True))
    ]


def known_ids(names: list[str], source: str) -> list[int] | None:
    """Return the id that a data set (coco_panoptic, cityscapes, ade20k) has for each name, None if it lacks one."""
    return _ids_of(names, [*label_names(source).values()], _IDS[source])


def _ids_of(names: list[str], known: list[str], ids: list[int]) -> list[int] | None:
    places = match_names(known, names)
    found = [ids[place] for place in places if place is not None]
    return found if len(found) == len(names) else None
