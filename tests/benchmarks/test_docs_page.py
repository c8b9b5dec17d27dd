# SPDX-License-Identifier: Apache-2.0
"""The page of benchmarks says what was measured."""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import itertools

import charts

from benchmarks import docs_page


def test_tables_are_those_of_the_results():
    text = docs_page.PAGE.read_text(encoding="utf-8")
    assert docs_page.page(text) == text, "run benchmarks/docs_page.py"


@pytest.mark.parametrize("name", docs_page.figures())
def test_figures_are_those_of_the_results(name):
    text = (docs_page.FIGURES / f"{name}.svg").read_text(encoding="utf-8")
    assert docs_page.figures()[name] == text, "run benchmarks/docs_page.py"
    assert ET.fromstring(text).tag.endswith("svg")
    assert f"figures/{name}.svg" in docs_page.PAGE.read_text(encoding="utf-8")


def test_a_page_without_its_table_is_said():
    with pytest.raises(ValueError, match="must have one table inference, it has 0"):
        docs_page.page("# Benchmarks\n")


def test_lines_go_up_with_their_values():
    panels = {"seconds": {"transformers": {256: 1.0, 512: 4.0, 1024: 16.0}, "unisegment": {512: 2.0, 1024: 8.0}}}
    found = ET.fromstring(charts.line_charts("A title", panels))
    lines = [element for element in found.iter() if element.tag.endswith("polyline")]
    theirs, ours = ([tuple(map(float, point.split(","))) for point in line.get("points").split()] for line in lines)
    assert len({round(b[1] - a[1]) for a, b in itertools.pairwise(theirs)}) == 1  # an even slope
    assert theirs[0][0] < theirs[1][0] == ours[0][0] < theirs[2][0] == ours[1][0]
    assert theirs[0][1] > ours[0][1] > theirs[1][1] > ours[1][1] > theirs[2][1]
    words = [element.text for element in found.iter() if element.tag.endswith("text")]
    assert words == ["A title", "seconds", "256", "512", "1024", "1", "16", "transformers", "unisegment"]
