# SPDX-License-Identifier: Apache-2.0
"""The page of benchmarks says what was measured."""

import xml.etree.ElementTree as ET

import pytest

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
    with pytest.raises(ValueError, match="must have one table model_step, it has 0"):
        docs_page.page("# Benchmarks\n")
