# SPDX-License-Identifier: Apache-2.0
import torch

from unisegment.inference.table import aligned, table
from unisegment.structures import PanopticPrediction, SemanticPrediction


def found(*names):
    """Segments of one row each, the first of three pixels, each next one of one more."""
    id_map = torch.zeros(max(len(names), 1), 20, dtype=torch.int32)
    infos = []
    for row, name in enumerate(names):
        id_map[row, : row + 3] = row + 1
        infos.append({"id": row + 1, "label_id": row, "score": 0.875, "label": name})
    return PanopticPrediction(id_map, infos)


def test_the_largest_segment_comes_first():
    assert table(found("cow", "polar bear")).splitlines() == [
        "label       score  share  x0  y0  x1  y1",
        "polar bear   0.88  10.0%   0   1   4   2",
        "cow          0.88   7.5%   0   0   3   1",
    ]


def test_names_in_any_script_are_aligned():
    names = ["牛", "корова", "گاو", "नीला", "ａ", "e\u0301le\u0301phant", "a\nb\x1b[31m\u2028c"]
    lines = table(found(*names)).splitlines()
    assert len(lines) == 8
    # What stands behind the name in a terminal: wide signs take two columns, marks none.
    columns = {"牛": 2, "корова": 6, "گاو": 3, "नीला": 4, "ａ": 2, "e\u0301le\u0301phant": 8, "a b [31m c": 10}
    assert "\x1b" not in "".join(lines)
    for name, taken in columns.items():
        (line,) = (line for line in lines if line.startswith(name + " "))
        assert line[len(name) :].startswith(" " * (10 - taken) + "   0.88")


def test_long_names_are_cut():
    lines = table(found("x" * 300, "牛" * 300)).splitlines()
    assert lines[1].startswith("牛" * 18 + "...")
    assert lines[2].startswith("x" * 37 + "...  ")
    assert all(len(line) < 90 for line in lines)


def test_many_segments_are_counted():
    lines = table(found(*"abcdefg"), most=3).splitlines()
    assert [line[0] for line in lines] == ["l", "g", "f", "e", "."]
    assert lines[-1] == "... and 4 more"


def test_small_shares_are_not_nothing():
    id_map = torch.zeros(100, 100, dtype=torch.int64)
    id_map[3, 5] = 1
    infos = [{"id": label, "label_id": label, "score": 1.0, "was_fused": True} for label in (0, 1)]
    lines = table(SemanticPrediction(id_map, infos)).splitlines()
    assert lines[1].split() == ["0", "1.00", "100.0%", "0", "0", "100", "100"]
    assert lines[2].split() == ["1", "1.00", "<0.1%", "5", "3", "6", "4"]


def test_nothing_found():
    assert table(found()) == "Nothing found in 20 x 1 pixels."


def test_rows_without_numbers():
    assert aligned([["a", ""], ["b", "2"]]) == "a\nb  2"
