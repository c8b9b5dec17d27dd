# SPDX-License-Identifier: Apache-2.0
"""Counts and histograms, worked out by hand."""

from unisegment.checking.figures import Figures
from unisegment.checking.image_files import FileFacts
from unisegment.checking.sample_check import CheckedSample, Summary
from unisegment.structures import Category

CATEGORIES = [
    Category(number, name, is_thing, (0, 0, 0))
    for number, name, is_thing in ((3, "cow", True), (5, "dog", True), (8, "sky", False))
]


def test_samples_are_added_up():
    figures = Figures(CATEGORIES)
    facts = FileFacts("JPEG", "RGB", (31, 100), 1, 77)
    summary = Summary((31, 100), [0, 0, 2], [1023, 1024, 3], [False, True, False], 1050)
    figures.add(4, CheckedSample("a", [], facts, "L", summary))
    figures.add(6, CheckedSample("b", [], FileFacts("PNG", "P", (97, 96), 1, -5), "I;16", None))
    figures.add(7, CheckedSample("c", [], None, None, Summary((97, 96), [], [], [], 97 * 96)))
    figures.add(8, CheckedSample("d", [], facts, "L", Summary((97, 96), [2], [96 * 96], [False], 96)))
    assert [category.name for category in figures.unused()] == ["dog"]
    assert (list(figures.indices), list(figures.digests)) == ([4, 6, 8], [77, -5, 77])
    assert figures.label_map_modes == {"L", "I;16"}
    assert figures.opened == 3
    pixels = 31 * 100 + 2 * 97 * 96
    assert figures.as_dict() == {
        "file_kinds": {"JPEG RGB": 2, "PNG P": 1},
        "image_sizes": [{"height": 97, "width": 96, "images": 2}, {"height": 31, "width": 100, "images": 1}],
        "distinct_image_sizes": 2,
        "longest_sides": [{"from": 64, "to": 127, "count": 3}],
        "categories": [
            {
                "label": 0, "id": 3, "name": "cow", "is_thing": True, "segments": 2, "crowds": 1, "images": 1,
                "pixels": 2047, "pixel_share": 2047 / pixels,
            },
            {
                "label": 1, "id": 5, "name": "dog", "is_thing": True, "segments": 0, "crowds": 0, "images": 0,
                "pixels": 0, "pixel_share": 0.0,
            },
            {
                "label": 2, "id": 8, "name": "sky", "is_thing": False, "segments": 2, "crowds": 0, "images": 2,
                "pixels": 9219, "pixel_share": 9219 / pixels,
            },
        ],
        "segments": 4,
        "segments_per_image": [
            {"from": 0, "to": 0, "count": 1},
            {"from": 1, "to": 1, "count": 1},
            {"from": 2, "to": 3, "count": 1},
        ],
        "root_areas": [
            {"from": 1, "to": 1, "count": 1},
            {"from": 2, "to": 3, "count": 0},
            {"from": 4, "to": 7, "count": 0},
            {"from": 8, "to": 15, "count": 0},
            {"from": 16, "to": 31, "count": 1},
            {"from": 32, "to": 63, "count": 1},
            {"from": 64, "to": 127, "count": 1},
        ],
        "coco_sizes": {"small": 2, "medium": 1, "large": 1},
        "unlabelled_share": (1050 + 97 * 96 + 96) / pixels,
        "unlabelled_tenths": [1, 0, 0, 1, 0, 0, 0, 0, 0, 1],
    }  # fmt: skip


def test_nothing_adds_up_to_nothing():
    figures = Figures(None).as_dict()
    assert figures["unlabelled_share"] is None
    assert figures["longest_sides"] == figures["categories"] == []
