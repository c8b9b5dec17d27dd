# SPDX-License-Identifier: Apache-2.0
"""The scripts that people are to read run."""

import runpy
import sys
from pathlib import Path

import pytest

from tests.training.test_assembly import RESNET, SMALL
from unisegment import Segmenter, UniSegmentConfig, UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.data.formats.synthetic import CATEGORIES, write_synthetic

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.filterwarnings("ignore:OpenCV")  # supervision does without
def test_all_that_a_segmenter_does(tmp_path, monkeypatch, capsys):
    write_synthetic(tmp_path / "data", num_train=0, num_val=2, progress=False)
    labels = {label: category.name for label, category in enumerate(CATEGORIES)}
    model = UniSegmentForUniversalSegmentation(UniSegmentConfig(backbone_config=RESNET, id2label=labels, **SMALL))
    model.save_pretrained(tmp_path / "model")
    UniSegmentImageProcessor(size={"shortest_edge": 64, "longest_edge": 80}).save_pretrained(tmp_path / "model")
    done = []

    def fit(data, **settings):  # tests of training train
        done.append((Path(data).name, settings["schedule.max_steps"], settings["start"]))
        return Segmenter.from_pretrained(tmp_path / "model")

    monkeypatch.setattr(Segmenter, "fit", fit)
    monkeypatch.setattr(
        Segmenter, "push", lambda self, repo_id: done.append(repo_id) or "https://huggingface.co/me/mine"
    )
    words = [tmp_path / "model", tmp_path / "data/val", tmp_path / "data", "--output", tmp_path / "out"]
    words += ["--set", "schedule.max_steps=2", "--push", "me/mine"]
    monkeypatch.setattr(sys, "argv", ["segmenter.py", *map(str, words)])
    runpy.run_path(str(EXAMPLES / "segmenter.py"), run_name="__main__")
    assert done == [("data", 2, str(tmp_path / "model")), "me/mine"]
    said = capsys.readouterr().out
    for line in ("pictures: {'images': 2, 'new': 2", "again: {'images': 2, 'new': 0", "PQ: ", "address: https://"):
        assert line in said
    assert {file.suffix for file in (tmp_path / "out/one").iterdir()} == {".png", ".json"}
    assert (tmp_path / "out/pictures/predictions.json").is_file()
