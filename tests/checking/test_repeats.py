# SPDX-License-Identifier: Apache-2.0
"""Images that are there twice are named, with where else they are."""

from pathlib import Path

from unisegment.checking.figures import Figures
from unisegment.checking.image_files import FileFacts
from unisegment.checking.opening import OpenedPart, Part
from unisegment.checking.repeats import note_repeats
from unisegment.checking.sample_check import CheckedSample
from unisegment.data.problems import CollectedProblems
from unisegment.runs.data_recipe import DataRecipe


def part(split, digests):
    """Return a part whose images have these hashes; None is an image that cannot be opened."""
    files = [Path(split) / name for name in digests]
    figures = Figures(None)
    for index, digest in enumerate(digests.values()):
        facts = None if digest is None else FileFacts("PNG", "RGB", (5, 7), 1, digest)
        figures.add(index, CheckedSample("", [], facts))
    return OpenedPart(Part(DataRecipe(root="r"), split), None, files), figures, CollectedProblems()


def found(item):
    return {
        finding["kind"]: [(listed["file"], listed["detail"]) for listed in finding["listed"]]
        for finding in item[2].as_dicts()
    }


def test_repeats_within_and_between_parts():
    train = part("train", {"a": 5, "b": None, "c": -3, "x/d": 5, "e": 5})
    val = part("val", {"f": 7, "g": None, "h": -3, "y/d": 8, "b": 1})
    test = part("test", {"c": -3})
    note_repeats([train, val, test])
    assert found(train) == {
        "duplicate-image": [
            ("train/x/d", "it has the same content as train/a"),
            ("train/e", "it has the same content as train/x/d"),
        ]
    }
    assert found(val) == {
        "leak": [("val/h", "it is also in r: train, as train/c")],
        "same-name": [("val/y/d", "2 images have names of r: train, as this and train/x/d")],
    }
    assert found(test) == {
        "leak": [("test/c", "it is also in r: train, as train/c"), ("test/c", "it is also in r: val, as val/h")]
    }


def test_parts_without_files_are_passed_over():
    nothing = (OpenedPart(Part(DataRecipe(root="r"), "x"), None), Figures(None), CollectedProblems())
    empty = part("y", {})
    note_repeats([nothing, empty, part("train", {"a": 5}), nothing])
    assert found(nothing) == found(empty) == {}
