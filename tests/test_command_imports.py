# SPDX-License-Identifier: Apache-2.0
"""What the command imports before it knows that there is something to compute: in fresh processes."""

import json
import subprocess
import sys

import typer

from unisegment import cli

HEAVY = {"torch", "transformers", "accelerate", "datasets", "pycocotools", "scipy", "numpy"}
COMMANDS = sorted(typer.main.get_command(cli.app).commands)
SHOW_MODULES = """
import json, sys
from unisegment.__main__ import main
seen = []
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        seen.append([end.code, sorted({name.partition(".")[0] for name in sys.modules})])
print(json.dumps(seen), file=sys.stderr)
"""


def modules_after(*lines):
    """Return the exit status of each command line, and the packages that all until then have imported."""
    ran = subprocess.run([sys.executable, "-c", SHOW_MODULES, json.dumps(lines)], capture_output=True, text=True)
    return json.loads(ran.stderr.splitlines()[-1])


def test_help_and_misuse_import_nothing_heavy():
    lines = [
        *(["--help"], ["--version"], ["recipes"], *([command, "--help"] for command in COMMANDS)),
        *(["trian"], ["--bogus"], ["train"], ["convert", "a", "b", "--to", "onnx"], ["check-data", "a", "--workers=0"]),
        *(["predict", "a", "b", "c", "--threshold", "2"], ["evaluate", "a", "--no-such-option"]),
    ]
    seen = modules_after(*lines)
    assert [status for status, _ in seen] == [0] * (3 + len(COMMANDS)) + [2] * 7
    assert not HEAVY & set(seen[-1][1])


def test_what_is_missing_is_found_before_anything_heavy_is_imported():
    seen = modules_after(
        *(["train", "nope.yaml"], ["evaluate", "/nope", "x"], ["predict", "/nope", "x", "out"]),
        *(["convert", "/nope", "out"], ["push", "/nope", "user/name"], ["recipes", "nothing"]),
    )
    assert [status for status, _ in seen] == [1] * 6
    assert not HEAVY & set(seen[-1][1])
