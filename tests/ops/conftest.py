# SPDX-License-Identifier: Apache-2.0
"""A compiler that is a shell script: it logs what it is asked and pretends. No real one is needed."""

import pytest

SOURCES = ("csrc/cpu/host.cpp", "csrc/cpu/loops_avx2.cpp", "csrc/cpu/loops_default.cpp", "torch-ext/binding.cpp")
CUDA_SOURCES = ("csrc/cuda/device.cpp", "csrc/cuda/launch.cu", "csrc/cuda/kernels.cuh")
COMPILER = """#!/bin/sh
case "$1" in --version) echo "compiler 1.2.3"; exit;; esac
echo "$@" >> {folder}/log
while [ -e {folder}/slow ]; do sleep 0.05; done
while [ $# -gt 1 ]; do if [ "$1" = -o ]; then echo made > "$2"; fi; shift; done
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder of sources, in an environment with an empty cache and a compiler that only pretends."""
    for name in (*SOURCES, *CUDA_SOURCES):
        (tmp_path / "kernel" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "kernel" / name).write_text(f"// {name}")
    write_program(tmp_path / "compiler", COMPILER.format(folder=tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "compiler"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for variable in ("CUDA_HOME", "CUDA_PATH", "TORCH_CUDA_ARCH_LIST"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "kernel"


def write_program(path, text):
    path.write_text(text)
    path.chmod(0o755)


def commands(folder):
    log = folder.parent / "log"
    return log.read_text().splitlines() if log.exists() else []
