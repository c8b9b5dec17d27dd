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


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_do_little_end_by_themselves_and_know_no_secret(path):
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    assert "secrets." not in text
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 60
        # What PyPI takes for a proof of where a package comes from.
        assert job.get("permissions") == ({"id-token": "write"} if name == "pypi" else None)
        for action in (step["uses"] for step in job["steps"] if "uses" in step):
            assert re.search(r"@(v\d+|release/v\d+)$", action), action


def test_a_tag_publishes_what_was_installed_and_tried():
    publish = yaml.safe_load((ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8"))
    assert publish[True] == {"push": {"tags": ["v*"]}}
    packages, pypi = publish["jobs"]["packages"]["steps"], publish["jobs"]["pypi"]
    assert next(step["run"] for step in packages if "run" in step) == "make release-check"
    assert (pypi["needs"], pypi["environment"]) == ("packages", "pypi")
    (uploaded,) = (step["with"]["name"] for step in packages if "upload-artifact" in step.get("uses", ""))
    assert pypi["steps"][0]["with"] == {"name": uploaded, "path": "dist/"}


def test_every_system_and_both_ends_of_the_releases_are_tested():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))["jobs"]
    assert {name.partition("-")[0] for name in jobs["systems"]["strategy"]["matrix"]["os"]} == {
        "ubuntu",
        "macos",
        "windows",
    }
    version = {
        name: next(step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", ""))
        for name, job in jobs.items()
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = [kind.rpartition(" ")[2] for kind in project["classifiers"] if "Python :: 3." in kind]
    assert (version["oldest"], version["newest"]) == (stated[0], stated[-1])
    assert project["requires-python"] == f">={stated[0]}"


@pytest.mark.parametrize("path", [*WORKFLOWS, *ROOT.glob("*.md"), ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_make_knows_every_target_that_is_named(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    text = path.read_text(encoding="utf-8")
    # A whole line of a script, a step of a workflow, or code within a sentence.
    named = re.findall(r"^(?:.*run: )?make ([a-z -]+)(?:#.*)?$|`make ([a-z -]+)`", text, flags=re.MULTILINE)
    assert named or path.name in ("ARCHITECTURE.md", "CHANGELOG.md")
    assert {target for words in named for target in "".join(words).split()} <= targets
