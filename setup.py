# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml cannot say: wheels carry recipes, the kernel's sources and, where it is asked for, its library.

A pure wheel, py3-none-any: `pip wheel --no-deps .` A binary one, py3-none-linux_x86_64, for every Python and every
torch from 2.10 on: `UNISEGMENT_BUILD_KERNELS=1 pip wheel --no-deps --no-build-isolation .` It has code for the CPU, and
for GPUs where TORCH_CUDA_ARCH_LIST names them (`TORCH_CUDA_ARCH_LIST="8.0;9.0;10.0"`), which needs nvcc but no GPU.
"""

import importlib.util
import os
import shutil
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
BINARY = os.environ.get("UNISEGMENT_BUILD_KERNELS", "0") not in ("", "0")


class BuildWithFolders(build_py):
    """Put recipes and kernel beside the modules. An editable install finds them in the repository."""

    def run(self) -> None:
        """Copy the package, the recipes and the sources, then build."""
        super().run()
        if self.editable_mode:
            return
        recipes = Path(self.build_lib) / "unisegment" / "_recipes"
        shutil.rmtree(recipes, ignore_errors=True)
        shutil.copytree(ROOT / "recipes", recipes, ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__"))
        folder = Path(self.build_lib) / "unisegment" / "_kernels" / "ms_deform_attn"
        shutil.rmtree(folder, ignore_errors=True)
        for part in ("csrc", "torch-ext"):
            source = ROOT / "kernels" / "ms_deform_attn" / part
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        if BINARY:
            build_library(folder)


class PlatformWheel(bdist_wheel):
    """Name the wheel after the system alone: the library depends on no version of Python and of torch."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tags of Python, ABI and platform."""
        tag = super().get_tag()
        return ("py3", "none", tag[2]) if BINARY else tag


class MaybeBinary(Distribution):
    """Tell setuptools whether there will be compiled code, though it is not one of its own extension modules."""

    def has_ext_modules(self) -> bool:
        """Return whether the wheel holds for one platform only."""
        return BINARY


def build_library(folder: Path) -> None:
    """Compile the sources in this folder into a library beside them."""
    if importlib.util.find_spec("torch") is None:
        raise SystemExit(
            "UNISEGMENT_BUILD_KERNELS=1 compiles against torch, and this environment has none: build isolation hides "
            "it. Install torch and setuptools>=77, then add --no-build-isolation to the command."
        )
    spec = importlib.util.spec_from_file_location("kernel_build", ROOT / "unisegment" / "ops" / "kernel_build.py")
    kernel_build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kernel_build)
    architectures = kernel_build.wished_architectures()
    kernel_build.build(folder, folder / kernel_build.library_name(architectures), architectures)


setup(
    cmdclass={"build_py": BuildWithFolders, "bdist_wheel": PlatformWheel},
    distclass=MaybeBinary,
)
