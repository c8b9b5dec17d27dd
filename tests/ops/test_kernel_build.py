# SPDX-License-Identifier: Apache-2.0
"""What is compiled, and how. The compiler only pretends, see conftest.py."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.ops.conftest import COMPILER, SOURCES, commands, write_program
from tests.warm_processes import NEVER, WarmProcess, run_code
from unisegment.ops import kernel_build
from unisegment.ops.kernel_build import LIBRARY, KernelUnavailableError, cached_library

ARCHITECTURES = ("sm_80", "sm_90", "compute_90")
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
def nvcc(folder, monkeypatch):
    """Return another compiler that only pretends, whose commands begin with its name in the log."""
    path = folder.parent / "toolkit" / "bin" / "nvcc"
    path.parent.mkdir(parents=True)
    write_program(path, COMPILER.replace('echo "$@"', 'echo "nvcc $@"').format(folder=folder.parent))
    monkeypatch.setenv("CUDA_HOME", str(path.parents[1]))
    return path


def test_builds_once_into_the_cache(folder):
    library = cached_library(folder)
    assert library.read_text() == "made\n"
    assert library.is_relative_to(folder.parent / "cache" / "unisegment-kernels")
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
    return WarmProcess(run_code, CHILD, kernel_build.__file__, folder)


def test_with_gpus_nvcc_compiles_their_code_and_links(folder, nvcc):
    library = cached_library(folder, ARCHITECTURES)
    assert library.name == "ms_deform_attn-sm_80-sm_90-compute_90.so"
    *compiled, linked = commands(folder)
    assert len(compiled) == len(SOURCES) + 2
    (device,) = (command for command in compiled if command.startswith("nvcc "))
    assert "launch.cu" in device
    assert re.findall("-gencode [^ ]+", device) == [
        "-gencode arch=compute_80,code=sm_80",
        "-gencode arch=compute_90,code=sm_90",
        "-gencode arch=compute_90,code=compute_90",
    ]
    assert "-Xcompiler -fPIC,-fvisibility=hidden" in device
    host = [command for command in compiled if command != device]
    assert all("-DCUDA_KERNEL" in command and "-DCPU_KERNEL" in command for command in host)
    # Both with the C++ compiler that compiles the rest.
    for command in (device, linked):
        assert command.startswith("nvcc ")
        assert f"-ccbin {folder.parent / 'compiler'} " in command
    assert f"-L{nvcc.parents[1] / 'lib'} " in linked
    assert linked.count(".o ") == len(compiled)


def test_libraries_with_and_without_code_for_gpus_live_side_by_side(folder, nvcc):
    libraries = [cached_library(folder), cached_library(folder, ("sm_80",)), cached_library(folder, ("sm_80", "sm_90"))]
    (folder / "csrc" / "cuda" / "kernels.cuh").write_text("// changed")
    libraries.append(cached_library(folder, ("sm_80",)))
    write_program(nvcc, nvcc.read_text().replace("1.2.3", "13.0"))
    libraries.append(cached_library(folder, ("sm_80",)))
    assert len(set(libraries)) == len(libraries)
    assert not [command for command in commands(folder)[: len(SOURCES) + 1] if "CUDA" in command or "cuda" in command]
    before = len(commands(folder))
    assert cached_library(folder, ("sm_80",)) == libraries[-1]
    assert len(commands(folder)) == before


def test_a_compiler_behind_another_program_is_not_given_to_nvcc(folder, nvcc, monkeypatch):
    monkeypatch.setenv("CXX", f"env {folder.parent / 'compiler'}")
    assert cached_library(folder, ARCHITECTURES).is_file()
    assert not [command for command in commands(folder) if "-ccbin" in command]


def test_where_nvcc_is_looked_for(folder, nvcc, monkeypatch):
    """In $CUDA_HOME, $CUDA_PATH, PATH, its usual place, and pip's packages, in this order."""
    asked = []
    monkeypatch.setattr("shutil.which", lambda program: asked.append(str(program)))
    monkeypatch.setenv("CUDA_PATH", "/another/toolkit")
    package = folder.parent / "site" / "nvidia"
    (package / "cu13" / "bin").mkdir(parents=True)
    (package / "cu13" / "bin" / "nvcc").touch()
    monkeypatch.syspath_prepend(str(package.parent))
    with pytest.raises(KernelUnavailableError, match=r"no nvcc was found .* Install the CUDA toolkit, or let"):
        kernel_build._find_nvcc()
    expected = [str(nvcc), "/another/toolkit/bin/nvcc", "nvcc", "/usr/local/cuda/bin/nvcc"]
    assert asked[:4] == expected
    assert str(package / "cu13" / "bin" / "nvcc") in asked[4:]


def test_no_nvcc(folder, nvcc, monkeypatch):
    library = cached_library(folder, ARCHITECTURES)
    which = kernel_build.shutil.which
    monkeypatch.setattr("shutil.which", lambda program: None if Path(program).name == "nvcc" else which(program))
    # What was built before serves on.
    assert cached_library(folder, ARCHITECTURES) == library
    with pytest.raises(KernelUnavailableError, match="no nvcc was found"):
        cached_library(folder, ("sm_100",))
    assert cached_library(folder).name == LIBRARY


def test_a_failing_nvcc(folder, nvcc):
    write_program(nvcc, "#!/bin/sh\nif [ $1 = --version ]; then exit; fi; echo Unsupported gpu >&2; exit 1")
    with pytest.raises(KernelUnavailableError, match=r"nvcc failed with status 1:\nUnsupported gpu"):
        cached_library(folder, ARCHITECTURES)
    assert not list((folder.parent / "cache").rglob("*.so"))


def test_architectures_are_read_off_a_librarys_name():
    for architectures in ((), ("sm_90", "compute_90"), ARCHITECTURES):
        assert kernel_build.architectures_of(Path("a-b") / kernel_build.library_name(architectures)) == architectures
    assert kernel_build.library_name() == LIBRARY


def test_what_is_compiled_for_gpus():
    assert kernel_build.architectures_for([]) == ()
    assert kernel_build.architectures_for([(9, 0)]) == ("sm_90", "compute_90")
    several = kernel_build.architectures_for([(10, 0), (8, 6), (10, 0), (9, 0)])
    assert several == ("sm_86", "sm_90", "sm_100", "compute_100")


@pytest.mark.parametrize(
    ("architectures", "gpu", "covered"),
    [
        ((), (9, 0), False),
        (("sm_80",), (8, 0), True),
        (("sm_80",), (8, 9), True),
        (("sm_86",), (8, 0), False),
        (("sm_80",), (9, 0), False),
        (("compute_80",), (9, 0), True),
        (("compute_90",), (8, 9), False),
        (("sm_80", "sm_90", "compute_90"), (12, 1), True),
        (("sm_80", "sm_100"), (12, 0), False),
        (("sm_100",), (10, 3), True),
    ],
)
def test_which_gpus_can_run_what(architectures, gpu, covered):
    assert kernel_build.has_code_for(architectures, gpu) == covered


def test_wished_architectures(monkeypatch):
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    assert kernel_build.wished_architectures() == ()
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;10.0+PTX 9.0")
    assert kernel_build.wished_architectures() == ("sm_80", "sm_90", "sm_100", "compute_100")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;Hopper")
    with pytest.raises(ValueError, match=r"TORCH_CUDA_ARCH_LIST takes versions like .*, got '8.0 Hopper'"):
        kernel_build.wished_architectures()


def test_processes_that_start_at_once_build_once(folder):
    slow = folder.parent / "slow"
    slow.touch()
    processes = [start_process(folder) for _ in range(2)]
    wait_until(lambda: len(commands(folder)) == len(SOURCES))
    time.sleep(0.5)  # the other one is at the lock by now, or will be: both must do
    slow.unlink()
    libraries = {process.communicate()[0].strip() for process in processes}
    assert libraries == {str(cached_library(folder))}
    assert len(commands(folder)) == len(SOURCES) + 1


def test_a_killed_build_leaves_nothing_that_blocks_or_is_taken_for_a_library(folder):
    slow = folder.parent / "slow"
    slow.touch()
    process = start_process(folder)
    wait_until(lambda: len(commands(folder)) == len(SOURCES))
    process.send_signal(signal.SIGKILL)
    process.communicate()
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
    monkeypatch.setenv("CXX", "g++ '")
    with pytest.raises(
        KernelUnavailableError, match=r"CXX is .g\+\+ '., which is no command line .No closing quotation"
    ):
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


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("win32", "AMD64"), ("linux", "riscv64")])
def test_other_systems_are_told_so(folder, monkeypatch, system, machine):
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    with pytest.raises(KernelUnavailableError, match=f"{machine}, only for Linux on x86_64 and aarch64"):
        cached_library(folder)


def wait_until(condition):
    deadline = time.monotonic() + NEVER
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
