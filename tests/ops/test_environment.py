# SPDX-License-Identifier: Apache-2.0
from importlib import metadata

from unisegment.ops import kernel_backend
from unisegment.ops.environment import environment


def test_versions_devices_and_paths(monkeypatch):
    monkeypatch.delenv("UNISEGMENT_KERNELS", raising=False)
    lines = dict(environment())
    assert lines["torch"] == metadata.version("torch")
    assert "cores" in lines["cpu"]
    assert lines["ms_deform_attn"].endswith("UNISEGMENT_KERNELS=auto")
    # What is built is told where something is.
    assert lines["ms_deform_attn"].startswith("native" if "kernel" in lines else "torch")
    assert lines.get("kernel_on_gpus", "built for").startswith("built for")


def test_a_demand_that_cannot_be_met(monkeypatch):
    monkeypatch.setattr(kernel_backend, "_found", "no compiler here.")
    monkeypatch.setenv("UNISEGMENT_KERNELS", "native")
    assert "error: native is demanded and cannot be had: no compiler here;" in dict(environment())["ms_deform_attn"]
