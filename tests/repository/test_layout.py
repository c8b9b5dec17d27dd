# SPDX-License-Identifier: Apache-2.0
"""The house rules that a machine can check."""

import ast
import tomllib
from pathlib import Path

import pytest

import unisegment
from unisegment.models.choices import FOLDERS

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = sorted((ROOT / "unisegment").rglob("*.py"))
SOURCES = [*LIBRARY, *sorted((ROOT / "recipes").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_STATEMENTS = 400, 40
# Nothing but names, aliases or containers of results: there is nothing to test on its own.
WITHOUT_TEST = {"types.py", "ops/limits.py", "models/unisegment/outputs.py"}


def names_of(paths) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def test_every_file_states_its_licence():
    licence = "# SPDX-License-Identifier: Apache-2.0\n"
    without = [path for path in (*SOURCES, *TESTS) if not path.read_text(encoding="utf-8").startswith(licence)]
    assert names_of(without) == []


def test_every_module_has_its_tests_under_the_same_path():
    modules = [path.relative_to(ROOT / "unisegment") for path in LIBRARY if path.name != "__init__.py"]
    expected = {module.parent / f"test_{module.name}" for module in modules if module.as_posix() not in WITHOUT_TEST}
    assert sorted(expected - {path.relative_to(ROOT / "tests") for path in TESTS}) == []


def test_files_and_functions_are_small():
    large = {}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > MAX_FILE_LINES:
            large[path] = len(text.splitlines())
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                statements = sum(isinstance(inner, ast.stmt) for inner in ast.walk(node)) - 1
                if statements > MAX_FUNCTION_STATEMENTS:
                    large[path, node.name] = statements
    assert large == {}


def test_file_names_say_something():
    forbidden = ("utils", "helpers", "misc", "common")
    assert names_of(path for path in (*SOURCES, *TESTS) if path.stem in forbidden) == []


@pytest.mark.parametrize("folder", ["kernels", "datasets", "evaluate", "recipes", "benchmarks"])
def test_no_top_level_folder_shadows_a_package(folder):
    assert not (ROOT / folder / "__init__.py").exists()


def test_public_names_exist_and_are_sorted():
    assert sorted(unisegment.__all__) == unisegment.__all__
    assert all(hasattr(unisegment, name) for name in unisegment.__all__)


def test_the_import_contract_knows_every_family():
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = [contract for contract in linter["contracts"] if contract["type"] == "protected"]
    assert sorted(contract["protected_modules"]) == sorted(f"unisegment.models.{folder}" for folder in FOLDERS.values())
