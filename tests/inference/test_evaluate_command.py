# SPDX-License-Identifier: Apache-2.0
"""The command that evaluates, with a tiny model of random weights."""

import errno
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.training.test_assembly import RESNET, SMALL
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.cli import app
from unisegment.data.formats import open_data_set
from unisegment.data.formats.synthetic import CATEGORIES, write_synthetic
from unisegment.files import WriteError
from unisegment.inference import evaluate, match_data_set, open_predictor

NAMES = {label: category.name for label, category in enumerate(CATEGORIES)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return scenes and a checkpoint."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_synthetic(folder / "scenes", num_train=0, num_val=3, progress=False)
    model = UniSegmentForUniversalSegmentation(UniSegmentConfig(backbone_config=RESNET, id2label=NAMES, **SMALL))
    model.save_pretrained(folder / "ours")
    processor = UniSegmentImageProcessor(size={"shortest_edge": 64, "longest_edge": 80}, num_labels=8)
    processor.save_pretrained(folder / "ours")
    return folder


def scenes(folder):
    return open_data_set(folder / "scenes", "coco_panoptic", "val")


def command(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_what_is_written_is_what_is_returned(folder, tmp_path):
    predictor, samples = match_data_set(open_predictor(folder / "ours", panoptic_threshold=0.0), scenes(folder))
    report = evaluate(predictor, samples, output=tmp_path, worst=2, batch_size=2)
    assert report["images"] == 3
    assert report["checkpoint"] == str(folder / "ours")
    assert json.loads((tmp_path / "metrics.json").read_text()) == report
    assert len(report["worst"]) == 2
    assert len(list((tmp_path / "worst").glob("0[12]_*.png"))) == 2
    # What is stuff the data set says: the processor of this checkpoint does not know it.
    assert predictor.stuff_label_ids == {5, 6, 7}


def test_the_command_prints_tables(folder, tmp_path, caplog):
    result = command(
        folder / "ours", folder / "scenes", "--limit", 2, "--output", tmp_path, "--worst", 1,
        "--no-boundaries", "--top-k", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "triangle" in result.output
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["images"] == 2
    assert report["settings"]["top_k"] == 1
    (note,) = {record.getMessage() for record in caplog.records if "top_k" in record.getMessage()}
    assert "objects, but predictions have the 1 best of an image (--top-k; evaluation.top_k in a recipe)" in note


def test_errors_are_one_line(folder):
    wrong_format = command(folder / "ours", folder / "scenes", "--format", "nonsense")
    assert wrong_format.exit_code == 2
    assert "error: Invalid value for '--format': " in wrong_format.output
    assert "'nonsense' is not one of 'auto', 'coco_panoptic', " in wrong_format.output


@pytest.mark.parametrize("output", ["file", "file/sub", "run"])
def test_a_folder_that_takes_no_report_is_found_before_the_work(folder, tmp_path, output):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text('{"pq": 0.5, "finished": true}')
    result = command(folder / "ours", folder / "scenes", "--output", tmp_path / output, "--limit", 1)
    assert result.exit_code == 1
    said = "metrics.json would be replaced, but is not known" if output == "run" else "A file is in the way"
    assert said in result.stderr.splitlines()[-1]
    assert "image/s" not in result.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == {"pq": 0.5, "finished": True}


def test_an_earlier_report_stays_until_the_new_one_is_whole(folder, tmp_path, monkeypatch):
    predictor, samples = match_data_set(open_predictor(folder / "ours"), scenes(folder), limit=1)

    def score():
        evaluate(predictor, samples, tasks=("semantic",), output=tmp_path, worst=1)

    score()
    (tmp_path / "worst" / "notes.txt").write_text("mine")
    (tmp_path / "worst" / "09_00007_x.png").write_text("of an earlier one")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write = Path.write_text

    def full(self, text, **settings):
        write(self, text[:9], **settings)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(WriteError, match=r"metrics\.json could not be written: No space left .* Make room there"):
            score()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    score()
    assert sorted(path.name for path in (tmp_path / "worst").iterdir()) == ["01_00000_000000000001.png", "notes.txt"]
