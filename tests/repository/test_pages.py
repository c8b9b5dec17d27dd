# SPDX-License-Identifier: Apache-2.0
"""What the README, the pages in docs/ and the notebooks tell people to type works."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.repository.page_blocks import ROOT, Block, blocks, notebook, run_bash, run_line, run_python, run_yaml
from tests.repository.page_folder import make_folder
from unisegment.runs.recipe import load_recipe

DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "recipes" / "README.md", *DOCS]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
OTHERS = [*ROOT.glob("*.md"), *(ROOT / "benchmarks").rglob("*.md"), *(ROOT / "kernels").rglob("*.md")]
LINKED = [*PAGES[1:], *NOTEBOOKS, *OTHERS]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with everything that code on a page may name, trained and drawn once."""
    return make_folder(tmp_path_factory.mktemp("pages"))


@pytest.fixture
def working_folder(made, tmp_path, monkeypatch):
    """Go to a copy of that folder; code may leave there what it likes."""
    folder = tmp_path / "work"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")  # Trainer asks for it on a CPU, too
@pytest.mark.filterwarnings("ignore:OpenCV")  # supervision does without
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_code_runs_from_top_to_bottom(page, working_folder):
    names = {}
    for block in blocks(page):
        if block.language == "python":
            run_python(block, names)
        elif block.language == "bash":
            run_bash(block)
        elif block.language == "yaml":
            run_yaml(block)
        elif block.language == "json":
            json.loads(block.text)
        else:
            assert block.language == "text", f"line {block.line}: say the language of the block"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_run_from_top_to_bottom(path, working_folder):
    names = {}
    for code in notebook(path):
        exec(compile(code, path.name, "exec"), names)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("unisegment train coco_panoptic_r5 data.root=x", "There is no recipe coco_panoptic_r5"),
        ("unisegment train coco_panoptic_r50 optim.learning_rate=1", "learning_rate"),
        ("unisegment push runs/quickstart you/it --privat", "privat"),
        ("unisegment push runs/quickstart", "repo"),
        ("accelerate launch recipes/no_such_script.py quickstart", "no_such"),
        ("accelerate launch --config_file recipes/no_such.yaml recipes/train.py quickstart", "no_such"),
        ("make no-such-target", "no-such-target"),
        ("pip install 'unisegment[no_such_extra]'", "no_such_extra"),
        ("frobnicate", "no test knows"),
    ],
)
def test_lines_that_cannot_run_are_read_as_the_command_reads_them(line, error):
    with pytest.raises(Exception, match=error):
        run_line(line, "a GPU")


def test_what_a_line_needs_is_one_of_a_few_things():
    with pytest.raises(AssertionError, match="needs is one of"):
        run_bash(Block("bash", "unisegment info  # needs patience", 1))


def test_the_readme_and_the_recipe_expect_the_same_of_the_quickstart():
    ranges = re.findall(r"0\.\d+ to 0\.\d+", load_recipe("quickstart").evaluation.expected)
    assert len(ranges) == 3
    for page in ("README.md", "recipes/README.md"):
        assert [
            line
            for line in (ROOT / page).read_text(encoding="utf-8").splitlines()
            if all(part in line for part in ranges)
        ], page


def anchors(page: Path) -> set[str]:
    """Return the names that links can lead to: headings as GitHub and the site spell them, and `id=`."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    spelled = [re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip() for heading in headings]
    return {re.sub(r"[\s]+", "-", heading) for heading in spelled} | set(re.findall(r'id="([^"]+)"', text))


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


def test_messages_name_pages_and_sections_that_exist():
    sources = [*(ROOT / "unisegment").rglob("*.py"), *(ROOT / "recipes").glob("*.*")]
    found = []
    for source in sources:
        for page, anchor in re.findall(r"((?:docs|recipes)/[\w/]+\.md)(?:#([\w-]+))?", source.read_text("utf-8")):
            assert (ROOT / page).is_file(), (source, page)
            assert not anchor or anchor in anchors(ROOT / page), (source, page, anchor)
            found.append(page)
    assert found
