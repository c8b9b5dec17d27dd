# SPDX-License-Identifier: Apache-2.0
"""Rows of figures in, a file of results of one machine out."""

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers


def save_rows(path: Path, what: str, rows: Mapping[str, Any], order: Sequence[str], device: str = "cpu") -> None:
    """Write rows; those that a file holds stay if they are of the same machine, threads and releases.

    Args:
        path: The file.
        what: What the rows are, in words.
        rows: By name.
        order: All names there can be.
        device: Where they were measured.
    """
    known = {**known_rows(path, what, device), **rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"what": what, **machine(device), "rows": {name: known[name] for name in sorted(known, key=order.index)}}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def known_rows(path: Path, what: str, device: str = "cpu") -> dict[str, Any]:
    """Return the rows of a file, where it is of the same machine, threads and releases."""
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    is_same = {"what": what, **machine(device)} == {name: value for name, value in old.items() if name != "rows"}
    return old["rows"] if is_same else {}


def machine(device: str = "cpu") -> dict[str, Any]:
    """Return what times depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    found: dict[str, Any] = {"cpu": f"{name}, {torch.backends.cpu.get_cpu_capability()}"}
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
    releases = {"torch": torch.__version__, "transformers": transformers.__version__}
    return found | {"threads": torch.get_num_threads()} | releases
