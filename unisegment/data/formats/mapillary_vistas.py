# SPDX-License-Identifier: Apache-2.0
"""Mapillary Vistas 1.2; later editions have it in folders of their own."""

from collections.abc import Collection

from unisegment.data.annotated_images import categories_from_table
from unisegment.data.categories import MAPILLARY_VISTAS
from unisegment.data.formats import coco_panoptic
from unisegment.data.formats.format import Format, Found, Layout
from unisegment.data.problems import Problems
from unisegment.data.reading.label_maps import LabelMaps, pair_files

_EDITIONS = ("v1.2/", "")


def _open_semantic(found: Found, *, problems: Problems, void_ids: Collection[int] = ()) -> LabelMaps:
    """Open the 65 labels that are evaluated, as they are numbered in the PNG files; 65 is unlabelled."""
    pairs = pair_files(found.parts["images"], found.parts["annotations"], (".jpg",), problems=problems)
    return LabelMaps(pairs, categories_from_table(range(65), MAPILLARY_VISTAS), void={65}, void_ids=void_ids)


def _has_maps(found: Found) -> bool:
    """Tell whether there are PNG files: other tools write text files to folders of this name."""
    return any(found.parts["annotations"].glob("*.png"))


FORMATS = (
    Format(
        name="mapillary_vistas_semantic",
        data_set="Mapillary Vistas",
        summary="Mapillary Vistas 1.2: PNG files of category ids",
        layouts=[
            Layout(parts={"annotations": f"{{long_split}}/{edition}labels", "images": "{long_split}/images"})
            for edition in _EDITIONS
        ],
        open=_open_semantic,
        tasks=("semantic",),
        labels="the table of version 1.2",
        sniff=_has_maps,
    ),
    Format(
        name="mapillary_vistas_panoptic",
        data_set="Mapillary Vistas",
        summary="Mapillary Vistas 1.2: panoptic files as COCO's",
        layouts=[
            Layout(
                parts={
                    "annotations": f"{{long_split}}/{edition}panoptic/panoptic_2018.json",
                    "images": "{long_split}/images",
                    "segments": f"{{long_split}}/{edition}panoptic",
                },
                # The last category is "Unlabeled".
                settings={"void_categories": {66}},
            )
            for edition in _EDITIONS
        ],
        open=coco_panoptic.open_found,
        tasks=("panoptic", "instance", "semantic"),
        labels="the JSON file",
    ),
)
