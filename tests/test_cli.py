# SPDX-License-Identifier: Apache-2.0
import torch
from typer.testing import CliRunner

from unisegment.cli import app


def run(*arguments):
    return CliRunner().invoke(app, arguments)


def test_info_prints_versions_devices_and_paths(monkeypatch):
    monkeypatch.delenv("UNISEGMENT_KERNELS", raising=False)
    result = run("info")
    assert result.exit_code == 0
    lines = dict(line.split(None, 1) for line in result.output.splitlines())
    assert lines["torch"] == torch.__version__
    assert "cores" in lines["cpu"]
    assert lines["ms_deform_attn"].startswith("pure PyTorch")
    assert lines["ms_deform_attn"].endswith("UNISEGMENT_KERNELS=auto")


def test_info_says_when_a_demand_cannot_be_met(monkeypatch):
    monkeypatch.setenv("UNISEGMENT_KERNELS", "native")
    assert "error: A compiled ms_deform_attn kernel is demanded" in run("info").output


def test_help_lists_the_commands():
    assert "info" in run("--help").output
