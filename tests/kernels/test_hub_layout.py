# SPDX-License-Identifier: Apache-2.0
"""The kernel's folder as a project of the Kernel Hub: read, loaded and used by the `kernels` package itself."""

import json
import platform
import shutil
import subprocess
import sys
import textwrap
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest

from unisegment.ops.kernel_build import NAMESPACE, KernelUnavailableError, cached_library

FOLDER = Path(__file__).parents[2] / "kernels" / "ms_deform_attn"
# Not by importing it: the repository's own folder of that name would do.
INSTALLED = {distribution.name for distribution in distributions()}
needs_kernels = pytest.mark.skipif("kernels" not in INSTALLED, reason="the `kernels` package is not installed")

# What kernel-builder writes for every project, with a library found beside it.
OPS = """
from pathlib import Path

import torch

torch.ops.load_library(Path(__file__).with_name("library.so"))
ops = torch.ops.{name}


def add_op_namespace_prefix(op_name):
    return f"{name}::{{op_name}}"
"""


def test_build_file_lists_every_source():
    build = tomllib.loads((FOLDER / "build.toml").read_text(encoding="utf-8"))
    listed = {name for part in (build["torch"], *build["kernel"].values()) for name in part["src"]}
    # registration.h is for builds of our own: kernel-builder makes one itself.
    sources = {path.relative_to(FOLDER).as_posix() for path in (FOLDER / "csrc").rglob("*") if path.is_file()}
    sources |= {path.relative_to(FOLDER).as_posix() for path in (FOLDER / "torch-ext").glob("*.*")}
    assert listed == sources - {"csrc/registration.h"}
    assert build["general"]["name"].replace("-", "_") == NAMESPACE


@needs_kernels
def test_build_file_is_valid_for_kernel_builder():
    from kernels._rust import Build

    assert [str(backend) for backend in Build.open(FOLDER).general.backends] == ["cpu", "cuda"]


@pytest.fixture
def repository(tmp_path):
    """Return a repository as the Hub has it, with the variant for this machine's CPU."""
    try:
        library = cached_library(FOLDER)
    except KernelUnavailableError as error:
        pytest.skip(str(error))
    variant = tmp_path / "build" / f"torch-stable-abi210-cpu-{platform.machine()}-linux"
    shutil.copytree(FOLDER / "torch-ext" / NAMESPACE, variant, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(library, variant / "library.so")
    (variant / "_ops.py").write_text(OPS.format(name=NAMESPACE), encoding="utf-8")
    metadata = {"id": f"{NAMESPACE}_cpu", "name": NAMESPACE.replace("_", "-"), "version": 1, "license": "Apache-2.0"}
    metadata |= {"python-depends": [], "backend": {"type": "cpu"}}
    (variant / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    return tmp_path


@needs_kernels
def test_layer_replaces_that_of_transformers(repository):
    """In a process of its own: a library's operators can be registered only once."""
    script = """
        import sys
        from pathlib import Path

        import torch
        from kernels import LocalLayerRepository, Mode, get_local_kernel, kernelize, use_kernel_mapping
        from kernels import use_kernel_forward_from_hub
        from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention as Theirs

        from unisegment.ops.ms_deform_attn import ms_deform_attn


        class Layer(torch.nn.Module):
            forward = Theirs.forward


        Layer = use_kernel_forward_from_hub("MultiScaleDeformableAttention")(Layer)
        repository, shapes = Path(sys.argv[1]), [(3, 5), (7, 2)]
        value = torch.randn(2, 29, 3, 8)
        locations, weights = torch.rand(2, 11, 3, 2, 4, 2), torch.rand(2, 11, 3, 2, 4)
        wanted = ms_deform_attn(value, shapes, locations, weights, backend="torch")

        kernel = get_local_kernel(repository, backend="cpu")
        torch.testing.assert_close(kernel.ms_deform_attn(value, shapes, locations, weights), wanted)

        mapping = {
            "MultiScaleDeformableAttention": {
                "cpu": LocalLayerRepository(repo_path=repository, layer_name="MultiScaleDeformableAttention")
            }
        }
        with use_kernel_mapping(mapping, inherit_mapping=False):
            layer = kernelize(Layer(), mode=Mode.TRAINING | Mode.TORCH_COMPILE, device="cpu", use_fallback=False)
        starts = torch.tensor([0, 15])
        arguments = (torch.tensor(shapes), shapes, starts, locations, weights, 64)
        torch.testing.assert_close(layer(value, *arguments), wanted)
        assert torch.equal(layer(value, *arguments), kernel.ms_deform_attn(value, shapes, locations, weights))
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(value, *arguments), wanted)
        print("equal")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(repository)], capture_output=True, text=True, check=False
    )
    assert result.stdout.strip().endswith("equal"), result.stderr
