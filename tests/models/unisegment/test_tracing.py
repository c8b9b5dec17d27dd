# SPDX-License-Identifier: Apache-2.0
"""torch.compile and torch.export of the whole model: one graph for images of all sizes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOLERANCE = 1e-5


def traced(*arguments):
    command = [sys.executable, "-m", "tests.models.unisegment.traced_model", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found():
    return traced()


def test_compiled_training_is_one_graph_for_all_sizes_and_equals_what_is_not_compiled(found):
    # Without a break: the loss is left out of the graph altogether, whatever the number of segments.
    assert found["compile_training"] == [True, 1, 0]


def test_model_compile_serves_training_evaluation_and_inference(found):
    assert max(found["compile_by_method"]) < TOLERANCE


def test_an_exported_program_is_right_at_all_sizes(found):
    assert max(found["export"]) < TOLERANCE


def test_a_file_of_onnx_is_right_at_all_sizes(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    assert max(traced(tmp_path)) < TOLERANCE
