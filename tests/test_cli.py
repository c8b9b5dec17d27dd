# SPDX-License-Identifier: Apache-2.0
from importlib import metadata

from typer.testing import CliRunner

from tests.models.unisegment.original_files import original_state_dict, stock_model, write_pickle
from unisegment import UniSegmentConfig
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
