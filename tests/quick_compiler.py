# SPDX-License-Identifier: Apache-2.0
"""The C++ compiler without its optimiser, which takes most of its time, for tests of what is around a library."""

import shlex
from pathlib import Path

from unisegment.ops.kernel_build import _find_compiler


def write_quick_compiler(folder: Path) -> str:
    """Return what CXX has to be."""
    program = folder / "compiler"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(_find_compiler())} "$@" -O0\n', encoding="utf-8")
    program.chmod(0o755)
    return str(program)
