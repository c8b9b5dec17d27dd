# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from unisegment.runs.recipe import RunRecipe
from unisegment.runs.run_folder import RunFolder
from unisegment.runs.settings import RecipeError
from unisegment.training.accelerator import make_accelerator


@pytest.fixture(autouse=True)
def _same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_each_one_has_its_own_precision_and_threads(tmp_path):
    for precision, threads in (("bf16", 2), ("no", 1)):
        run = RunRecipe(output_dir=str(tmp_path / "run"), precision=precision, threads=threads)
        assert make_accelerator(run, RunFolder(tmp_path / "run")).mixed_precision == precision
        assert torch.get_num_threads() == threads
    assert not (tmp_path / "run").exists()


def test_trackers_need_a_folder(tmp_path):
    run = RunRecipe(output_dir=str(tmp_path), trackers=("tensorboard",), threads=1)
    assert [tracker.value for tracker in make_accelerator(run, RunFolder(tmp_path)).log_with] == ["tensorboard"]
    assert make_accelerator(run).log_with == []


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU")
def test_processors_have_no_fp16(tmp_path):
    with pytest.raises(RecipeError, match=r"run\.precision=fp16 needs a GPU\. .*: run\.precision=bf16\."):
        make_accelerator(RunRecipe(output_dir=str(tmp_path), precision="fp16", threads=1))
