# SPDX-License-Identifier: Apache-2.0
"""The compiler of these tests is a shell script that logs what it is asked and pretends; no real one is needed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from unisegment.ops import kernel_build
from unisegment.ops.kernel_build import LIBRARY, KernelUnavailableError, cached_library

SOURCES = ("csrc/cpu/host.cpp", "csrc/cpu/loops_avx2.cpp", "csrc/cpu/loops_default.cpp", "torch-ext/binding.cpp")
COMPILER = """#!/bin/sh
case "$1" in --version) echo "compiler 1.2.3"; exit;; esac
echo "$@" >> {folder}/log
while [ -e {folder}/slow ]; do sleep 0.05; done
while [ $# -gt 1 ]; do if [ "$1" = -o ]; then echo made > "$2"; fi; shift; done
"""
# As setup.py does it: the file alone, without the package around it.
CHILD = """
import importlib.util, pathlib, platform, sys
spec = importlib.util.spec_from_file_location("kernel_build", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
platform.machine = lambda: "x86_64"
print(module.cached_library(pathlib.Path(sys.argv[2])))
"""

pytestmark = pytest.mark.skipif(
    not (os.uname().sysname == "Linux" and os.uname().machine in ("x86_64", "aarch64")), reason="nothing is built here"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder of sources, in an environment with an empty cache and a compiler that only pretends."""
    for name in SOURCES:
        (tmp_path / "kernel" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "kernel" / name).write_text(f"// {name}")
    write_program(tmp_path / "compiler", COMPILER.format(folder=tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "compiler"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return tmp_path / "kernel"


def write_program(path, text):
    path.write_text(text)
    path.chmod(0o755)


def commands(folder):
    log = folder.parent / "log"
    return log.read_text().splitlines() if log.exists() else []


def test_builds_once_into_the_cache(folder):
    library = cached_library(folder)
    assert library.read_text() == "made\n"
    assert library.is_relative_to(folder.parent / "cache" / "unisegment" / "kernels")
    *compiled, linked = commands(folder)
    assert len(compiled) == len(SOURCES)
    assert [command for command in compiled if "-mavx2" in command] == [c for c in compiled if "loops_avx2.cpp" in c]
    assert all(f"-I{folder / 'csrc'}" in command for command in compiled)
    assert "-shared" in linked
    assert cached_library(folder) == library
    assert len(commands(folder)) == len(SOURCES) + 1
    # Nothing of the building site is left.
    assert sorted(path.name for path in library.parent.iterdir()) == ["lock", LIBRARY]


def test_what_decides_about_the_library_is_in_its_name(folder, monkeypatch):
    libraries = [cached_library(folder)]
    (folder / "csrc" / "cpu" / "host.cpp").write_text("// changed")
    libraries.append(cached_library(folder))
    (folder / "csrc" / "header.h").write_text("// new")
    libraries.append(cached_library(folder))
    monkeypatch.setattr(kernel_build, "_FLAGS", ("-O2",))
    libraries.append(cached_library(folder))
    program = COMPILER.format(folder=folder.parent).replace("1.2.3", "1.2.4")
    write_program(folder.parent / "compiler", program)
    libraries.append(cached_library(folder))
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    libraries.append(cached_library(folder))
    assert len(set(libraries)) == len(libraries)
    # torch's stable interface makes one library serve every torch.
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    assert cached_library(folder) == libraries[-1]


def test_other_processors_get_no_x86_loops(folder, monkeypatch):
    assert kernel_build.instruction_sets() == ("default", "avx2", "avx512")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert kernel_build.instruction_sets() == ("default",)
    cached_library(folder)
    assert not [command for command in commands(folder) if "avx" in command]


def start_process(folder):
    command = [sys.executable, "-c", CHILD, kernel_build.__file__, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_start_at_once_build_once(folder):
    slow = folder.parent / "slow"
    slow.touch()
    processes = [start_process(folder) for _ in range(2)]
    wait_until(lambda: len(commands(folder)) == len(SOURCES))
    time.sleep(0.5)  # the other one is at the lock by now, or will be: both must do
    slow.unlink()
    libraries = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert libraries == {str(cached_library(folder))}
    assert len(commands(folder)) == len(SOURCES) + 1


def test_a_killed_build_leaves_nothing_that_blocks_or_is_taken_for_a_library(folder):
    slow = folder.parent / "slow"
    slow.touch()
    process = start_process(folder)
    wait_until(lambda: len(commands(folder)) == len(SOURCES))
    process.kill()
    process.communicate(timeout=60)
    assert not list((folder.parent / "cache").rglob(LIBRARY))
    slow.unlink()
    assert cached_library(folder).read_text() == "made\n"


def test_no_compiler(folder, monkeypatch):
    monkeypatch.setenv("PATH", "")
    library = cached_library(folder)
    monkeypatch.delenv("CXX")
    # What was built before serves on.
    assert cached_library(folder) == library
    library.unlink()
    with pytest.raises(KernelUnavailableError, match=r"no C\+\+ compiler was found .* Install one"):
        cached_library(folder)
    with pytest.raises(KernelUnavailableError, match=r"no C\+\+ compiler"):
        kernel_build.build(folder, folder.parent / LIBRARY)
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    with pytest.raises(KernelUnavailableError, match="CXX is 'no-such-compiler -O1', and there is no such program"):
        cached_library(folder)


def test_the_compiler_may_stand_behind_another_program(folder, monkeypatch):
    monkeypatch.setenv("CXX", f"env {folder.parent / 'compiler'}")
    assert cached_library(folder).is_file()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("#!/bin/sh\necho no licence >&2; exit 3", r"compiler failed with status 3:\nno licence"),
        (
            "#!/bin/sh\nif [ $1 = --version ]; then exit; fi; echo host.cpp:1: error: what is this >&2; exit 1",
            r"compiler failed with status 1:\nhost.cpp:1: error: what is this",
        ),
        ("\x7fELF of another machine", r"compiler cannot be run"),
    ],
)
def test_a_broken_compiler(folder, program, message):
    write_program(folder.parent / "compiler", program)
    with pytest.raises(KernelUnavailableError, match=message):
        cached_library(folder)
    assert not list((folder.parent / "cache").rglob(LIBRARY))
    assert not list((folder.parent / "cache").rglob("building-*"))


def test_a_cache_that_cannot_be_used(folder, monkeypatch):
    cache = folder.parent / "file"
    cache.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    with pytest.raises(KernelUnavailableError, match=r"cannot be used .*file.*XDG_CACHE_HOME"):
        cached_library(folder)
    assert not commands(folder)

    def full(self, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent))
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(KernelUnavailableError, match="No space left on device"):
        cached_library(folder)


def test_the_cache_is_in_the_home_folder_if_there_is_one(folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(folder.parent / "home"))
    assert cached_library(folder).is_relative_to(folder.parent / "home" / ".cache" / "unisegment")

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(KernelUnavailableError, match=r"Could not determine home directory.*XDG_CACHE_HOME"):
        cached_library(folder)


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("win32", "AMD64"), ("linux", "riscv64")])
def test_other_systems_are_told_so(folder, monkeypatch, system, machine):
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    with pytest.raises(KernelUnavailableError, match=f"{machine}, only for Linux on x86_64 and aarch64"):
        cached_library(folder)


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
