# SPDX-License-Identifier: Apache-2.0
"""The command for accelerate is the one of the library."""

from tests.recipes.test_evaluate import run


def test_it_says_how_it_is_used(capsys):
    assert run("predict.py", "--help") == 0
    printed = capsys.readouterr().out
    assert "recipes/predict.py" in printed
    assert "coco_test_dev" in printed


def test_errors_have_status_1(capsys, tmp_path):
    assert run("predict.py", "/nowhere", str(tmp_path), str(tmp_path / "out")) == 1
    assert capsys.readouterr().err == "error: /nowhere does not exist.\n"
