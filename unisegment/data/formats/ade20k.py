# SPDX-License-Identifier: Apache-2.0
"""ADE20K's scene parsing challenge (ADEChallengeData2016); instance and panoptic as the original's scripts write it."""

from collections.abc import Collection

from unisegment.data.annotated_images import categories_from_table
from unisegment.data.categories import ADE20K
from unisegment.data.formats import coco_instance, coco_panoptic
from unisegment.data.formats.format import Format, Found, Layout
from unisegment.data.problems import Problems
from unisegment.data.reading.label_maps import LabelMaps, pair_files


def _open_semantic(found: Found, *, problems: Problems, void_ids: Collection[int] = ()) -> LabelMaps:
    """Open the 150 labels of SceneParse150: number 1 in a PNG file is label 0, and so on; 0 is unlabelled."""
    files = pair_files(found.parts["images"], found.parts["annotations"], (".jpg",), problems=problems)
    return LabelMaps(files, categories_from_table(range(1, 151), ADE20K), void={0}, void_ids=void_ids)


FORMATS = (
    Format(
        name="ade20k_semantic",
        data_set="ADE20K",
        summary="ADE20K (SceneParse150): PNG files of category ids",
        layouts=[Layout(parts={"annotations": "annotations/{long_split}", "images": "images/{long_split}"})],
        open=_open_semantic,
        tasks=("semantic",),
        labels="the table of the challenge",
    ),
    Format(
        name="ade20k_instance",
        data_set="ADE20K",
        summary="ADE20K's instances as a COCO file",
        layouts=[Layout(parts={"annotations": "ade20k_instance_{split}.json", "images": "images/{long_split}"})],
        open=coco_instance.open_found,
        tasks=("instance",),
        labels="the JSON file",
    ),
    Format(
        name="ade20k_panoptic",
        data_set="ADE20K",
        summary="ADE20K's panoptic files as COCO's",
        layouts=[
            Layout(
                parts={
                    "annotations": "ade20k_panoptic_{split}.json",
                    "images": "images/{long_split}",
                    "segments": "ade20k_panoptic_{split}",
                },
                # The script that writes it lists stuff before it paints things over it.
                settings={"hidden_segments": True},
            )
        ],
        open=coco_panoptic.open_found,
        tasks=("panoptic", "instance", "semantic"),
        labels="the JSON file",
    ),
)
