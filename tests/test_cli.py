# SPDX-License-Identifier: Apache-2.0
from importlib import metadata

from typer.testing import CliRunner

from tests.checking.data_sets import WRITERS
from tests.models.unisegment.original_files import original_state_dict, stock_model, write_pickle
from unisegment import UniSegmentConfig, cli
from unisegment.cli import app
from unisegment.ops import kernel_backend


def run(*arguments):
    return CliRunner().invoke(app, arguments)


def test_info_prints_versions_devices_and_paths(monkeypatch):
    monkeypatch.delenv("UNISEGMENT_KERNELS", raising=False)
    result = run("info")
    assert result.exit_code == 0
    lines = dict(line.split(None, 1) for line in result.output.splitlines())
    assert lines["torch"] == metadata.version("torch")
    assert "cores" in lines["cpu"]
    assert lines["ms_deform_attn"].endswith("UNISEGMENT_KERNELS=auto")
    # What is built is told where something is.
    assert lines["ms_deform_attn"].startswith("native" if "kernel" in lines else "torch")
    assert lines.get("kernel_on_gpus", "built for").startswith("built for")


def test_info_says_when_a_demand_cannot_be_met(monkeypatch):
    monkeypatch.setattr(kernel_backend, "_found", "no compiler here.")
    monkeypatch.setenv("UNISEGMENT_KERNELS", "native")
    assert "error: native is demanded and cannot be had: no compiler here;" in run("info").output


def test_help_lists_the_commands():
    assert "info" in run("--help").output


def test_convert_reads_and_writes(tmp_path):
    source = write_pickle(tmp_path / "model.pkl", original_state_dict(stock_model("resnet")))
    labels = tmp_path / "labels.json"
    labels.write_text('["person", "rider", "car", "road", "sky", "truck", "wall"]')
    result = run("convert", str(source), str(tmp_path / "ours"), "--labels", str(labels), "--license", "mit")
    assert result.exit_code == 0, result.output
    assert "a checkpoint of unisegment, 7 classes, 13 queries" in result.output.replace("\n", "")
    config = UniSegmentConfig.from_pretrained(tmp_path / "ours")
    assert config.id2label[6] == "wall"
    assert config.base_weights == [{"name": "model.pkl", "license": "mit"}]
    result = run("convert", str(tmp_path / "ours"), str(tmp_path / "again.pkl"), "--to", "original")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "again.pkl").is_file()


def test_convert_says_what_is_wrong(tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"hello")
    for arguments, message in (
        ((str(tmp_path / "model.pkl"), "out"), "cannot be read as a file of weights"),
        ((str(tmp_path / "model.pkl"), "out", "--labels", "imagenet"), "There are no label names for 'imagenet'"),
        ((str(tmp_path / "model.pkl"), "out", "--to", "onnx"), "'onnx' is not one of"),
    ):
        result = run("convert", *arguments)
        assert result.exit_code == 2
        text = " ".join(result.output.replace("│", " ").split())
        assert message in text


def test_train_hands_its_words_on(monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "run_recipe", lambda *words, is_dry: seen.append((*words, is_dry)) or 75)
    assert run("train", "quickstart", "run.seed=1", "optim.lr=1e-4", "--dry-run").exit_code == 75
    assert run("train", "mine.yaml").exit_code == 75
    assert seen == [("quickstart", ["run.seed=1", "optim.lr=1e-4"], True), ("mine.yaml", (), False)]
    assert run("train").exit_code == 2


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
    assert "images/train/b.jpg: 0 bytes" in result.output
    assert "1 error, 1 warning" in result.output
    # Of the part that is held out alone, there is nothing but a warning.
    assert run(*words, "--split", "val").exit_code == 0


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
    for words, message in (
        ((str(tmp_path),), "has the layout of no format"),
        ((str(tmp_path), "--format", "voc"), "data.format"),
        ((str(tmp_path / "a.yaml"),), "There is no recipe"),
        ((str(tmp_path), "optim"), "--format"),
        (("--workers", "0", str(tmp_path)), "--workers"),
        ((), "Missing argument"),
    ):
        result = run("check-data", *words)
        assert result.exit_code == 2
        assert message in " ".join(result.output.replace("│", " ").split())
