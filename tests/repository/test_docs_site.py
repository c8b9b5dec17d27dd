# SPDX-License-Identifier: Apache-2.0
"""The site of docs/: every page is in its contents, it can be built, and its tables name keys and options there are."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
import yaml

from tests.repository import format_table
from unisegment.cli import app
from unisegment.data.export import EXPORT_FORMATS
from unisegment.data.writing import WRITERS
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.runs.recipe import Recipe
from unisegment.runs.settings import dotted_keys

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
# Options of other commands: accelerate's, and those of the peers beside which ours stand.
OTHERS = {
    "--amp", "--cfg-options", "--config-file", "--config_file", "--eval-only", "--multi_gpu", "--num-gpus",
    "--num_processes", "--gpus", "--quiet", "--resume",
}  # fmt: skip
# What looks like a key and is none.
FILES = {"model.safetensors", "run.lock", "model.config", "data.yaml"}


def leaves(contents):
    if isinstance(contents, str):
        return [contents]
    return [leaf for entry in (contents.values() if isinstance(contents, dict) else contents) for leaf in leaves(entry)]


def test_every_page_is_in_the_contents():
    contents = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(leaves(contents)) == [page.relative_to(ROOT / "docs").as_posix() for page in PAGES]


@pytest.mark.skipif(find_spec("zensical") is None, reason="the extra docs is not installed")
def test_the_site_builds_without_a_warning(tmp_path):
    """Strict: a link or name that leads nowhere is an error."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    config["site_dir"] = "site"
    config["plugins"][1]["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT)]
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "panoptic_quality_from_files" in (tmp_path / "site" / "api.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_and_options_on_the_page_are_there(page):
    """Those within a line; blocks are run."""
    code = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.M | re.S))
    keys, config = {*dotted_keys(Recipe), *FILES}, UniSegmentConfig()
    sections = "|".join({key.partition(".")[0] for key in dotted_keys(Recipe)})
    for text in code if page.name != "transformers.md" else ():  # which names parts of the model
        key = re.fullmatch(rf"((?:{sections})\.[a-z_.]+)(=.*)?", text)
        if key and key[1].startswith("model.config."):
            assert hasattr(config, key[1].split(".")[2]), text
        elif key:
            assert key[1] in keys, text
    commands = typer.main.get_command(app).commands.values()
    options = {
        name for command in commands for option in command.params for name in option.opts + option.secondary_opts
    }
    ours = options | {"--help", "--debug", "--version"}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", " ".join(code))) <= ours | OTHERS


def test_the_table_of_formats_is_that_of_the_registry():
    page = format_table.PAGE.read_text(encoding="utf-8")
    assert page == format_table.with_table(page), "update it: python -m tests.repository.format_table"


def test_the_page_of_exports_lists_all():
    page = (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")
    table = page.split("| `--to` | files |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE)) == {*EXPORT_FORMATS, "pictures"}


def test_the_page_of_conversions_lists_all():
    page = (ROOT / "docs" / "your_data.md").read_text(encoding="utf-8")
    table = page.split("| `--to` | holds |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE)) == set(WRITERS)
