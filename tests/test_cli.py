# SPDX-License-Identifier: Apache-2.0
from importlib import metadata

import pytest
from typer.testing import CliRunner

from tests.checking.data_sets import WRITERS, edit_json
from tests.models.unisegment.original_files import original_state_dict, stock_model, write_pickle
from unisegment import UniSegmentConfig
from unisegment.cli import app


def run(*arguments):
    return CliRunner().invoke(app, arguments)


def test_info_prints_a_line_for_each_version_device_and_path():
    result = run("info")
    assert result.exit_code == 0
    lines = dict(line.split(None, 1) for line in result.output.splitlines())
    assert lines["torch"] == metadata.version("torch")
    assert "ms_deform_attn" in lines


def test_help_lists_the_commands():
    assert "info" in run("--help").output


def test_convert_reads_and_writes(tmp_path):
    source = write_pickle(tmp_path / "model.pkl", original_state_dict(stock_model("resnet")))
    labels = tmp_path / "labels.json"
    labels.write_text('["person", "rider", "car", "road", "sky", "truck", "wall"]')
    result = run("convert", str(source), str(tmp_path / "ours"), "--labels", str(labels), "--license", "mit")
    assert result.exit_code == 0, result.output
    assert "a checkpoint of unisegment, 7 classes, a resnet backbone, 13 queries" in result.output.replace("\n", "")
    config = UniSegmentConfig.from_pretrained(tmp_path / "ours")
    assert config.id2label[6] == "wall"
    assert config.base_weights == [{"name": "model.pkl", "license": "mit"}]
    result = run("convert", str(tmp_path / "ours"), str(tmp_path / "again.pkl"))
    assert result.exit_code == 0, result.output
    assert "a checkpoint of original" in result.output.replace("\n", "")
    assert (tmp_path / "again.pkl").is_file()


def test_convert_says_what_is_wrong(tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"hello")
    for arguments, message in (
        ((str(tmp_path / "model.pkl"), "out"), "cannot be read as a file of weights"),
        ((str(tmp_path / "model.pkl"), "out", "--labels", "imagenet"), "There are no label names for 'imagenet'"),
        ((str(tmp_path / "model.pkl"), "out", "--to", "onnx"), "'onnx' is not one of"),
        ((str(tmp_path / "model.pkl"), "out.pth", "--to", "unisegment"), "out.pth is a file, but a checkpoint of"),
        ((str(tmp_path / "model.pkl"), str(tmp_path / "model.txt")), "model.txt is a file, but a checkpoint of unise"),
    ):
        (tmp_path / "model.txt").touch()
        result = run("convert", *arguments)
        assert result.exit_code == (2 if "onnx" in arguments else 1)
        assert message in result.stderr


def test_check_data_says_what_is_wrong_and_where(tmp_path):
    WRITERS["png_semantic"](tmp_path / "data")
    words = ("check-data", str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--workers", "1")
    result = run(*words, "--pictures", "1")
    assert result.exit_code == 0, result.output
    assert "Checking as png_semantic." in result.output
    assert "no errors, no warnings" in result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "report.json", "samples.jpg"}
    (tmp_path / "data/images/train/b.jpg").write_bytes(b"")
    (tmp_path / "data/labels/val/more.png").touch()
    result = run(*words, "--limit", "99", "--timeout", "99", "data.workers=0")
    assert result.exit_code == 1
    assert "images/train/b.jpg: it is empty: 0 bytes." in result.output
    assert "1 error, 1 warning" in result.output
    # Of the part that is held out alone, there is nothing but a warning.
    assert run(*words, "--split", "val").exit_code == 0


def test_check_data_fixes_a_copy(tmp_path):
    WRITERS["coco_instance"](tmp_path / "data")
    file = tmp_path / "data/annotations/instances_train.json"
    edit_json(file, lambda content: content["annotations"][0].update(iscrowd="1"))
    words = ("--output", str(tmp_path / "out"), "--workers", "1")
    result = run("check-data", str(tmp_path / "data"), "--fix", str(tmp_path / "fixed"), *words)
    assert result.exit_code == 1  # of what was checked
    assert f"1 change in the copy, listed in {tmp_path / 'fixed/changes.json'}" in result.output
    assert run("check-data", str(tmp_path / "fixed"), *words).exit_code == 0
    # Before anything is read.
    result = run("check-data", str(tmp_path / "data"), "--fix", str(tmp_path / "data/fixed"), *words)
    assert result.exit_code == 1
    assert "never fixed in place" in result.stderr


def test_check_data_takes_recipes(tmp_path):
    WRITERS["png_semantic"](tmp_path / "data")
    (tmp_path / "a.yaml").write_text(
        "data: {root: nowhere, format: png_semantic}\nschedule: {max_steps: 1}\nrun: {output_dir: out}\n"
    )
    words = ("check-data", str(tmp_path / "a.yaml"), "--output", str(tmp_path / "out"), "--workers", "1")
    assert run(*words, f"data.root={tmp_path / 'data'}").exit_code == 0
    result = run(*words)
    assert result.exit_code == 1
    assert "no-data" in result.output


def test_check_data_says_how_it_is_used(tmp_path):
    for words, status, message in (
        ((str(tmp_path),), 1, "has the layout of no known format"),
        ((str(tmp_path), "--format", "voc"), 2, "--format"),
        ((str(tmp_path / "a.yaml"),), 1, "There is no recipe"),
        ((str(tmp_path), "optim"), 1, "--format"),
        (("--workers", "0", str(tmp_path)), 2, "--workers"),
        ((), 2, "Missing argument"),
    ):
        result = run("check-data", *words)
        assert result.exit_code == status
        assert message in result.stderr


# What is not there, or not within reach: one line, before anything else is opened or made.
@pytest.mark.parametrize("name", ["/nope", "nope/nope", "nope.pth"])
@pytest.mark.parametrize(
    "words",
    [
        ["train", "quickstart", "model.pretrained={}"],
        ["train", "quickstart", "model.pretrained={}", "--dry-run"],
        ["train", "quickstart", "model.config.backbone={}", "model.config.use_pretrained_backbone=true", "--dry-run"],
        ["evaluate", "{}", "gone"],
        ["evaluate", "{}", "--recipe", "quickstart"],
        ["predict", "{}", "gone", "out"],
        ["convert", "{}", "out"],
    ],
)
def test_a_checkpoint_that_is_not_there_is_one_line_in_every_command(words, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*(word.format(name) for word in words))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert f"{name} does not exist" in line
    if name == "nope/nope":
        assert line.endswith("Hugging Face Hub before. HF_HUB_OFFLINE keeps from looking there.")
    assert not list(tmp_path.iterdir())


def test_a_recipe_or_folder_that_is_not_there_is_one_line_in_every_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    UniSegmentConfig().save_pretrained("model")  # no weights: the data are asked for first
    no_recipe = "error: There is no recipe nope.yaml, neither a file nor one that comes with unisegment."
    for words, said in (
        (("train", "nope.yaml"), no_recipe),
        (("check-data", "nope.yaml"), no_recipe),
        (("evaluate", "model", "--recipe", "nope.yaml"), no_recipe),
        (("predict", "model", "nope.yaml", "out"), no_recipe),
        (
            ("train", "coco_sample", "data.root=/nope"),
            "error: data.root=/nope, data.format=coco_panoptic: /nope does not",
        ),
        (("evaluate", "model", "/nope"), "error: data.root=/nope, data.format=auto: /nope does not exist."),
        (("predict", "model", "/nope", "out"), "error: /nope does not exist."),
        (
            ("predict", "model", "/nope", "out", "--format", "png_instance"),
            "error: data.root=/nope, data.format=png_instan",
        ),
        (("check-data", "/nope"), "error: data.root=/nope, data.format=auto: /nope does not exist."),
        (("push", "/nope", "someone/cows"), "error: /nope does not exist."),
        (("evaluate", "/", "/nope"), "error: / holds no checkpoint: it must be a folder with config.json"),
    ):
        result = run(*words)
        assert (result.exit_code, result.stderr[: len(said)]) == (1, said)
        assert len(result.stderr.splitlines()) == 1
