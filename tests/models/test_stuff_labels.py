# SPDX-License-Identifier: Apache-2.0
"""Stuff stays stuff by its name, whatever becomes of the numbers of labels."""

import pytest

from unisegment.models.stuff_labels import find_stuff

OWN = {0: "disc", 1: "sky-merged", 2: "soil"}
CATEGORIES = [{"id": 5, "name": name, "isthing": int(name == "disc")} for name in OWN.values()]


@pytest.mark.parametrize(
    ("id2label", "categories", "written", "written_for", "expected"),
    [
        # A file for these labels, whatever else says so.
        (OWN, CATEGORIES, [0], None, [0]),
        (OWN, CATEGORIES, [], OWN, []),
        # For others: by name.
        ({0: "Sky", 1: "disc"}, None, [1, 2], OWN, [0]),
        ({0: "soil", 1: "disc", 2: "sky"}, CATEGORIES, [0], OWN, [1]),
        ({0: "disc", 1: "soil"}, None, [0], {0: "LABEL_0", 1: "LABEL_1"}, [0]),
        # The config knows labels that the file does not, and a file of other labels has too many.
        (OWN, CATEGORIES, [0], {0: "cow", 1: "dog", 2: "cat"}, [1, 2]),
        (OWN, CATEGORIES, [0, 149], None, [1, 2]),
        # Names of a known data set.
        ({0: "tree", 1: "person"}, None, None, None, [0]),
        ({0: "tree", 1: "person"}, CATEGORIES, [1], OWN, [0]),
        # Nothing knows, or all were things.
        (OWN, None, None, None, None),
        ({0: "cow", 1: "unicorn"}, CATEGORIES, None, None, None),
        ({0: "cow", 1: "unicorn"}, CATEGORIES, [], OWN, []),
    ],
)
def test_what_is_stuff(id2label, categories, written, written_for, expected):
    assert find_stuff(id2label, categories, written, written_for) == expected


@pytest.mark.parametrize(("written", "written_for"), [([1], OWN), ([0, 3, 4, 5, 6, 149], None)])
def test_labels_that_nothing_knows_are_an_error(written, written_for):
    with pytest.raises(
        ValueError, match=r"Which of cow, unicorn are stuff\? .* stuff_label_ids=\[.*\] for other labels"
    ):
        find_stuff({0: "cow", 1: "unicorn"}, CATEGORIES, written, written_for)
