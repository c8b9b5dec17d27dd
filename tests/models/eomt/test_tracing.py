# SPDX-License-Identifier: Apache-2.0
"""torch.compile and torch.export of the whole model: one graph for images of all sizes and each way of masking."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unisegment.ops.fused_products import _dtypes

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def found():
    command = [sys.executable, "-m", "tests.models.eomt.traced_model"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_compiled_training_makes_a_graph_when_masks_begin_to_disappear_and_one_when_they_are_gone(found):
    assert found["compile_training"] == [True, [1, 1, 2, 2, 2, 3], 0]


def test_compiled_inference_is_one_graph_for_images_of_all_sizes_and_one_for_batches(found):
    counts, operators, largest = found["compile_inference"]
    assert counts == [1, 1, 1, 2, 2]
    assert largest < 1e-5
    if _dtypes():
        assert operators == ["feed_forward", "fused_dot_products", "fused_linear"]


def test_exported_programs_are_right_at_all_sizes(found):
    assert max(found["export"]) < 1e-5
