# SPDX-License-Identifier: Apache-2.0
"""What is built to be installed elsewhere holds what it needs there, and works there."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.quick_compiler import write_quick_compiler
from tests.repository.release_check import KERNEL, check_wheel, expected_files
from unisegment.ops import kernel_backend

pytest.importorskip("setuptools", minversion="77")

ROOT = Path(__file__).resolve().parents[2]
RECIPES = "unisegment/_recipes"
SOURCES = {
    path.relative_to(ROOT).as_posix() for path in (ROOT / "kernels").rglob("*.*") if "__pycache__" not in path.parts
}

# Runs where only the wheel and the packages it requires can be found.
USE = """
import warnings
warnings.simplefilter("error")
import torch
from unisegment.ops.environment import environment
from unisegment.training import load_recipe
assert load_recipe("coco_panoptic_swin_l", {"data.root": "coco"}).schedule.max_steps == 737500
from unisegment.ops.ms_deform_attn import ms_deform_attn
inputs = torch.randn(1, 6, 2, 8), [(2, 3)], torch.rand(1, 5, 2, 1, 4, 2), torch.rand(1, 5, 2, 1, 4)
torch.testing.assert_close(ms_deform_attn(*inputs, backend="native"), ms_deform_attn(*inputs, backend="torch"))
print(dict(environment())["kernel"])
"""


@pytest.fixture(scope="module")
def source_folder(tmp_path_factory):
    """Return the sdist, unpacked, so that wheels are made of what others get and nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("sdist")
    copy = folder / "repository"
    patterns = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")
    shutil.copytree(
        ROOT, copy, ignore=lambda place, names: patterns(place, names) | ({"runs"} if place == str(ROOT) else set())
    )
    build = "from setuptools.build_meta import build_sdist; build_sdist('..')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def make_wheel(source_folder, target, **variables):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    environment = {**os.environ, "UNISEGMENT_BUILD_KERNELS": "0", **variables}
    subprocess.run([*command, "--wheel-dir", target, "."], cwd=source_folder, env=environment, check=True)
    (wheel,) = target.glob("*.whl")
    return wheel


def tags(wheel):
    with zipfile.ZipFile(wheel) as file:
        (metadata,) = (name for name in file.namelist() if name.endswith(".dist-info/WHEEL"))
        return file.read(metadata).decode()


def test_sdist_has_the_sources(source_folder):
    files = {path.relative_to(source_folder).as_posix() for path in source_folder.rglob("*")}
    assert files >= SOURCES | {"setup.py", "pyproject.toml", "README.md", "LICENSE", "unisegment/__init__.py"}
    assert not [file for file in files if file.endswith((".so", ".pyc"))]


def test_script_beside_an_installed_clone_finds_the_package(source_folder, tmp_path):
    clone, site = tmp_path / "unisegment", tmp_path / "site"
    clone.symlink_to(source_folder, target_is_directory=True)
    build = f"from setuptools.build_meta import build_editable; build_editable({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=clone, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    script = tmp_path / "script.py"
    script.write_text(
        "import importlib.util, site\n"
        f"site.addsitedir({str(site)!r})\n"
        "print(importlib.util.find_spec('unisegment').origin)\n"
    )
    # Without the packages of this environment, among which is another installation.
    result = subprocess.run([sys.executable, "-S", "-E", script], check=True, capture_output=True, text=True)
    assert result.stdout == f"{source_folder / 'unisegment' / '__init__.py'}\n"


@pytest.mark.slow
def test_pure_wheel(source_folder, tmp_path):
    wheel = make_wheel(source_folder, tmp_path)
    assert wheel.name.endswith("-py3-none-any.whl")
    check_wheel(wheel, ROOT)
    assert "Root-Is-Purelib: true" in tags(wheel)


LICENCE = "unisegment-0.dist-info/licenses/LICENSE"


@pytest.mark.parametrize("change", ["unisegment/py.typed", f"{RECIPES}/quickstart.yaml", LICENCE, "unisegment/new.py"])
def test_a_wheel_that_lacks_a_file_or_has_one_too_many_is_refused(change, tmp_path):
    def write_wheel(names):
        with zipfile.ZipFile(tmp_path / "unisegment-0-py3-none-any.whl", "w") as file:
            for name in names:
                file.writestr(name, "")
        return Path(file.filename)

    names = {*expected_files(ROOT), LICENCE}
    check_wheel(write_wheel(names), ROOT)
    with pytest.raises(SystemExit, match=f"{Path(change).name}"):
        check_wheel(write_wheel(names ^ {change}), ROOT)


@pytest.mark.slow
def test_binary_wheel_needs_no_compiler(source_folder, tmp_path):
    if isinstance(kernel_backend.find_kernel(), str):
        pytest.skip(kernel_backend.find_kernel())
    wheel = make_wheel(source_folder, tmp_path, UNISEGMENT_BUILD_KERNELS="1", CXX=write_quick_compiler(tmp_path))
    assert wheel.name.endswith(f"-py3-none-linux_{os.uname().machine}.whl")
    check_wheel(wheel, ROOT)
    assert "Root-Is-Purelib: false" in tags(wheel)
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(command, check=True)
    environment = {"PATH": "", "HOME": str(tmp_path), "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    # The library that ran is the wheel's own, and no other appeared beside it.
    assert result.stdout.strip().endswith(f"from the wheel: {site / KERNEL / 'ms_deform_attn.so'}")
    assert not (tmp_path / ".cache" / "unisegment").exists()


def test_binary_wheel_without_torch_says_what_to_do(source_folder, tmp_path):
    hidden = "import sys; sys.modules['torch'] = None; from setuptools.build_meta import build_wheel; build_wheel('.')"
    environment = {**os.environ, "UNISEGMENT_BUILD_KERNELS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", hidden], cwd=source_folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode
    assert "this environment has none: build isolation hides it" in result.stderr
    assert "--no-build-isolation" in result.stderr
