# SPDX-License-Identifier: Apache-2.0
"""The house rules that a machine can check."""

import ast
from pathlib import Path

import pytest

import unisegment

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = sorted((ROOT / "unisegment").rglob("*.py"))
SOURCES = [*LIBRARY, *sorted((ROOT / "recipes").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_STATEMENTS = 400, 40
# Nothing but names, aliases or containers of results: there is nothing to test on its own.
WITHOUT_TEST = {"types.py", "ops/limits.py", "models/unisegment/outputs.py"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_every_file_states_its_licence(path):
    assert path.read_text(encoding="utf-8").startswith("# SPDX-License-Identifier: Apache-2.0\n")


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_every_module_has_its_tests_under_the_same_path(path):
    relative = path.relative_to(ROOT / "unisegment")
    if path.name == "__init__.py" or relative.as_posix() in WITHOUT_TEST:
        return
    assert (ROOT / "tests" / relative.parent / f"test_{path.name}").is_file()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_are_small(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            statements = sum(isinstance(inner, ast.stmt) for inner in ast.walk(node)) - 1
            assert statements <= MAX_FUNCTION_STATEMENTS, node.name


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_file_names_say_something(path):
    assert path.stem not in ("utils", "helpers", "misc", "common")


@pytest.mark.parametrize("folder", ["kernels", "datasets", "evaluate", "recipes", "benchmarks"])
def test_no_top_level_folder_shadows_a_package(folder):
    assert not (ROOT / folder / "__init__.py").exists()


def test_public_names_exist_and_are_sorted():
    assert sorted(unisegment.__all__) == unisegment.__all__
    assert all(hasattr(unisegment, name) for name in unisegment.__all__)
