# SPDX-License-Identifier: Apache-2.0
"""What a fresh machine installs is what was tested, and what pages and workflows tell people to make can be made."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def constraints(name):
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return {canonicalize_name(line.name): line.specifier for line in map(Requirement, filter(None, lines))}


def direct_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    lines = [Requirement(line) for group in groups for line in group]
    found = {canonicalize_name(line.name): line.specifier for line in lines}
    del found["unisegment"]  # its own extras
    return found


def test_constraints_name_one_release_of_every_direct_dependency():
    named, needed = constraints("constraints.txt"), direct_dependencies()
    assert named.keys() == needed.keys()
    for name, specifier in named.items():
        (pin,) = specifier
        assert pin.operator == "==", name
        assert pin.version in needed[name], name


def test_oldest_constraints_are_the_lowest_releases_that_are_allowed():
    needed = direct_dependencies()
    for name, specifier in constraints("constraints-oldest.txt").items():
        (pin,), (floor,) = specifier, needed[name]
        assert (pin.operator, floor.operator) == ("==", ">="), name
        assert pin.version.removesuffix(".0") == floor.version, name


def test_a_workflow_tests_the_newest_releases_every_month():
    commands = {}
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
        # YAML reads the key `on` as true.
        commands |= {step["run"]: workflow[True] for step in steps if "run" in step}
    (schedule,) = commands["make test-newest"]["schedule"]
    minute, hour, day, month, weekday = schedule["cron"].split()
    assert all(part.isdigit() for part in (minute, hour, day))
    assert (month, weekday) == ("*", "*")


@pytest.mark.parametrize("path", [*WORKFLOWS, *ROOT.glob("*.md"), ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_make_knows_every_target_that_is_named(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    text = path.read_text(encoding="utf-8")
    # A whole line of a script, a step of a workflow, or code within a sentence.
    named = re.findall(r"^(?:.*run: )?make ([a-z -]+)(?:#.*)?$|`make ([a-z -]+)`", text, flags=re.MULTILINE)
    assert named or path.name in ("ARCHITECTURE.md", "CHANGELOG.md")
    assert {target for words in named for target in "".join(words).split()} <= targets
