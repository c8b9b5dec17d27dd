# SPDX-License-Identifier: Apache-2.0
"""Drawn scenes, and a recipe for a short run on them."""

import pytest

from tests.training.tiny_run import RECIPE
from unisegment.data.formats.synthetic import write_synthetic


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "scenes"
    write_synthetic(root, num_train=8, num_val=3, progress=False)
    return root


@pytest.fixture
def recipe(scenes, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(root=scenes, output=tmp_path / "run"))
    return path
