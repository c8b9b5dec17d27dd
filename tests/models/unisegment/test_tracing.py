# SPDX-License-Identifier: Apache-2.0
"""torch.compile and torch.export of the whole model: one graph for images of all sizes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unisegment.ops.fused_products import _dtypes

ROOT = Path(__file__).resolve().parents[3]
TOLERANCE = 1e-5
FUSES = bool(_dtypes())


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


@pytest.mark.parametrize("family", ["resnet", "swin"])
def test_compiled_inference_is_one_graph_for_images_of_all_sizes_and_one_for_batches(found, family):
    counts, operators, largest = found["compile_inference"][family]
    assert counts == [1, 1, 1, 2, 2][: len(counts)]
    assert largest < TOLERANCE
    if FUSES:
        assert {"feed_forward", "fused_dot_products", "fused_linear"} <= set(operators)
        assert ("fused_conv2d" in operators) == (family == "resnet")


def test_an_exported_program_is_right_at_all_sizes(found):
    assert max(found["export"]) < TOLERANCE


def test_a_file_of_onnx_is_right_at_all_sizes(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    assert max(traced(tmp_path)) < TOLERANCE
