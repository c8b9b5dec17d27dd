# SPDX-License-Identifier: Apache-2.0
"""Blocks of code on the pages, and what runs a line of them.

A block or line that no test can run says so where readers see it: `# needs several GPUs`. It is read all the same: its
options, names of recipes and overrides must be those of the real command.
"""

import ast
import importlib
import io
import json
import re
import shlex
from contextlib import redirect_stdout
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import typer
from accelerate.commands.launch import launch_command_parser
from typer.testing import CliRunner

from unisegment.cli import app
from unisegment.runs.recipe import load_recipe
from unisegment.runs.settings import parse_overrides

ROOT = Path(__file__).resolve().parents[2]
REASONS = {"several GPUs", "the Hub", "the data set"}
"""What a line may need that tests do not have."""
# Of a training only the first steps run, on small images; what starts from nothing is small, too.
QUICKSTART = "data.num_train=4 data.num_val=3".split()
SMALL = (
    "model.config.encoder_layers=1 model.config.decoder_layers=2 model.config.num_queries=7 "
    "model.config.train_num_points=112"
).split()
SHORT = (
    "data.workers=0 data.transform.jitter_size=[64,96] data.shortest_edge=64 data.longest_edge=96 run.threads=1 "
    "run.precision=no schedule.warmup_steps=0 optim.batch_size=2 optim.accumulation=1 evaluation.pictures=1"
).split()


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line that it begins at."""

    language: str
    text: str
    line: int

    @property
    def needs(self) -> str | None:
        return _needs(self.text.partition("\n")[0])


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^( *)```(\w*)\n(.*?)^ *```$", text, flags=re.DOTALL | re.MULTILINE)
    return [
        Block(match[2], re.sub(f"^{match[1]}", "", match[3], flags=re.M), text.count("\n", 0, match.start()) + 1)
        for match in found
    ]


def notebook(path: Path) -> list[str]:
    """Return the code of a notebook's cells."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def _needs(line: str) -> str | None:
    match = re.search(r"(?:^|\s)# needs ([^:.;,]*)", line)
    if match and match[1].strip() not in REASONS:
        raise AssertionError(f"{line!r}: what a line needs is one of {sorted(REASONS)}")
    return match and match[1].strip()


def run_python(block: Block, names: dict) -> None:
    """Run a block, or read it where it cannot run: what it imports of ours must be there."""
    if block.needs is None:
        exec(compile(block.text, f"line {block.line}", "exec"), names)
        return
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("unisegment"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def run_yaml(block: Block) -> None:
    """Write a recipe under the name in its first line, and read it."""
    first = block.text.partition("\n")[0]
    assert re.fullmatch(r"# [a-z_]+\.yaml.*", first), f"line {block.line}: the first line must name the file"
    Path(first.split()[1]).write_text(block.text, encoding="utf-8")
    load_recipe(first.split()[1])


def run_bash(block: Block) -> None:
    """Run each line of a block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        needs = block.needs or _needs(line)
        command = re.sub(r"(^|\s)#\s.*", "", line).strip()
        for part in filter(None, command.split(" && ")):
            run_line(part, needs)


def run_line(line: str, needs: str | None = None) -> None:
    source, pipe, command = line.rpartition(" | ")
    given = None
    if pipe:  # only of `ls`, which Windows lacks
        name, pattern = source.split()
        assert name == "ls"
        given = "".join(f"{path}\n" for path in sorted(glob(pattern)))
    words = _without_launcher(shlex.split(command))
    if words[0] != "unisegment":
        check_other(words)
    elif needs:
        read_command(words[1:])
    else:
        run_command(words[1:], given)


def _without_launcher(words: list[str]) -> list[str]:
    """Return the words of the command itself: without accelerate, and without the script that stands for it."""
    if words[:2] == ["accelerate", "launch"]:
        launch = launch_command_parser().parse_args(words[2:])
        assert launch.config_file is None or (ROOT / launch.config_file).is_file(), words
        words = ["python", launch.training_script, *launch.training_script_args]
    if words[:2] == ["python", "$(command -v unisegment)"]:
        return ["unisegment", *words[2:]]
    if words[0] == "python" and words[1].startswith("recipes/"):
        assert (ROOT / words[1]).is_file(), words
        return ["unisegment", Path(words[1]).stem, *words[2:]]
    return words


def run_command(words: list[str], given: str | None = None) -> None:
    """Run a command, a training only for its first steps, with what is given to it on the standard input."""
    if words[:1] == ["check-data"]:
        words = [*words, "--workers", "1"]
    if words[:1] == ["train"]:
        starts = any(word.startswith("model.pretrained=") for word in words) or words[1].startswith("own_data_")
        words = [*words, *(QUICKSTART if words[1] == "quickstart" else ()), *(() if starts else SMALL)]
        epochs = any(word.startswith("schedule.epochs=") for word in words)
        words += [*SHORT, "schedule.epochs=1" if epochs else "schedule.max_steps=2"]
    result = CliRunner().invoke(app, words, input=given)
    assert result.exit_code == 0, (words, result.output, result.exception)


def read_command(words: list[str]) -> None:
    """Read arguments as the command does, and run nothing."""
    name, *rest = words
    with redirect_stdout(io.StringIO()):
        values = typer.main.get_command(app).commands[name].make_context(name, rest).params
    if name == "train":
        load_recipe(values["source"], parse_overrides(values["overrides"] or ()))


def check_other(words: list[str]) -> None:
    """Look whether what a command names is there: targets of make, extras of pip, scripts."""
    if words[0] == "make":
        phony = re.search(r"\.PHONY: (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))[1].split()
        assert set(words[1:]) <= set(phony), words
    elif words[:2] == ["pip", "install"]:
        extras = re.search(
            r"optional-dependencies\]\n(.*?)\n\n", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.DOTALL
        )[1]
        for extra in re.findall(r"(?:unisegment|\.)\[(.*?)\]", " ".join(words)):
            assert f"\n{extra} = " in f"\n{extras}", words
    elif words[0] == "python":
        assert (ROOT / words[1]).exists(), words
    else:
        assert words[0] in ("git", "cd", "source", "hf", "ls", "cat"), f"{words}: no test knows this command"
