# SPDX-License-Identifier: Apache-2.0
"""Cityscapes: `leftImg8bit` and `gtFine`, and panoptic files as cityscapesScripts makes them."""

from collections.abc import Collection

from unisegment.data.annotated_images import categories_from_table
from unisegment.data.categories import CITYSCAPES
from unisegment.data.formats import coco_panoptic
from unisegment.data.formats.format import Format, Found, Layout
from unisegment.data.problems import Problems
from unisegment.data.reading.label_maps import LabelMaps, Pairs, pair_files

_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Numbers of the 19 labels that are evaluated in `labelIds` files, in the order of `CITYSCAPES`.

Source:
    cityscapesScripts, labels.py.
"""
_ALL_IDS = range(34)


def _open_semantic(found: Found, *, problems: Problems, void_ids: Collection[int] = ()) -> LabelMaps:
    """Open the 19 labels that are evaluated; all others are void."""
    pairs = _pairs(found, problems)
    if found.settings["kind"] == "labelIds":
        return LabelMaps(pairs, categories_from_table(_IDS, CITYSCAPES), void=_ALL_IDS, void_ids=void_ids)
    return LabelMaps(pairs, categories_from_table(range(19), CITYSCAPES), void={255}, void_ids=void_ids)


def _open_instance(found: Found, *, problems: Problems, void_ids: Collection[int] = ()) -> LabelMaps:
    """Open the eight labels that are things; all others are void. Groups that nobody told apart are crowds."""
    things = [category for category in categories_from_table(_IDS, CITYSCAPES) if category.is_thing]
    return LabelMaps(_pairs(found, problems), things, void=_ALL_IDS, label_divisor=1000, void_ids=void_ids)


def _pairs(found: Found, problems: Problems) -> Pairs:
    ending = f"_gtFine_{found.settings['kind']}.png"
    return pair_files(
        found.parts["images"], found.parts["annotations"], ("_leftImg8bit.png",), ending, problems=problems
    )


def _layout(kind: str) -> Layout:
    parts = {
        "images": "leftImg8bit/{split}",
        "annotations": "gtFine/{split}",
        "sign": f"gtFine/{{split}}/*/*_gtFine_{kind}.png",
    }
    return Layout(parts=parts, settings={"kind": kind})


FORMATS = (
    Format(
        name="cityscapes_semantic",
        data_set="Cityscapes",
        summary="Cityscapes: PNG files of label ids, or of train ids if there are no others",
        layouts=[_layout("labelIds"), _layout("labelTrainIds")],
        open=_open_semantic,
        tasks=("semantic",),
        labels="the table of cityscapesScripts",
    ),
    Format(
        name="cityscapes_instance",
        data_set="Cityscapes",
        summary="Cityscapes: PNG files of instance ids",
        layouts=[_layout("instanceIds")],
        open=_open_instance,
        tasks=("instance",),
        labels="the table of cityscapesScripts",
    ),
    Format(
        name="cityscapes_panoptic",
        data_set="Cityscapes",
        summary="Cityscapes' panoptic files as COCO's",
        layouts=[
            Layout(
                parts={
                    "annotations": "gtFine/cityscapes_panoptic_{split}.json",
                    "images": "leftImg8bit/{split}",
                    "segments": "gtFine/cityscapes_panoptic_{split}",
                },
            )
        ],
        open=coco_panoptic.open_found,
        tasks=("panoptic", "instance", "semantic"),
        labels="the JSON file",
    ),
)
