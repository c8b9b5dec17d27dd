# SPDX-License-Identifier: Apache-2.0
"""Every kind of damage is named with its file, and training refuses what is called an error, by name, and only that."""

from pathlib import Path

import pytest

from tests.checking.damage import DAMAGES, write_damaged
from tests.checking.data_sets import WRITERS
from unisegment.checking import check_data
from unisegment.checking.sources import find_parts
from unisegment.data.formats import open_data_set
from unisegment.data.problems import KINDS, CollectedProblems, DataError, Problems
from unisegment.data.transforms.training import TrainTransform
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.settings import RecipeError
from unisegment.training.assembly import open_samples
from unisegment.training.batches import TransformedSamples

TIMEOUT = 120
"""Seconds: that a broken image is slow must not fail a test on a busy machine, that it hangs must."""

WHOLE = ("no-data", "category-not-learned", "nothing-to-learn")
"""What no reader of one split can see."""
CONSEQUENCES = ("not-opened", "unreadable-sample")
"""That training refuses something is named, too."""


def findings_of(root, data_format):
    report = check_data(
        find_parts([str(root)], data_format), root / "out", workers=1, timeout=TIMEOUT, pictures=0, progress=False
    )
    found = [
        (finding["kind"], item["file"])
        for part in report.parts
        for finding in part["findings"]
        for item in finding["listed"]
    ]
    return found, report


def problems_of(root, data_format, problems):
    """Return what reading the split "train" is refused with, opening and each sample, where it is said as a problem."""
    refused = []
    try:
        samples = open_data_set(root, data_format, "train", problems=problems)
    except (ValueError, OSError) as error:
        return [error.problem] if isinstance(error, DataError) else []
    for index in range(len(samples)):
        try:
            samples[index]
        except (ValueError, OSError) as error:
            refused += [error.problem] if isinstance(error, DataError) else []
    return refused


def test_there_are_many_kinds():
    assert len({damage.name for damage in DAMAGES}) == len(DAMAGES) >= 100
    assert len({damage.kind for damage in DAMAGES}) >= 40
    # What no file can cause is shown elsewhere.
    elsewhere = {"no-images", "nothing-held-out", "unexpected-exception", "too-slow", "process-died", "unreadable-file"}
    assert {damage.kind for damage in DAMAGES} | {"unreadable-sample"} == KINDS.keys() - elsewhere


def test_each_kind_of_error_is_tried_alone():
    """So that training, which must refuse it below, cannot have refused something else."""
    # The last three are no matter of the data.
    elsewhere = {"no-images", "unreadable-file", "unexpected-exception", "too-slow", "process-died"}
    errors = {kind for kind in KINDS if KINDS[kind].severity == "error"}
    assert {damage.kind for damage in DAMAGES if not damage.also} >= errors - elsewhere - {"unreadable-sample"}


@pytest.mark.parametrize("data_format", WRITERS)
def test_nothing_is_found_in_sound_data(tmp_path, data_format):
    WRITERS[data_format](tmp_path)
    found, report = findings_of(tmp_path, data_format)
    assert found == []
    assert [(part["images"], part["opened"]) for part in report.parts] == [(4, 4), (2, 2)]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damage_is_named(tmp_path, damage):
    write_damaged(damage, tmp_path)
    found, report = findings_of(tmp_path, damage.data_format)
    assert [file for kind, file in found if kind == damage.kind and file.endswith(damage.file)]
    assert all(str(tmp_path) in file for _, file in found)
    errors = {kind for kind, _ in found if KINDS[kind].severity == "error"} - ({*CONSEQUENCES} - {damage.kind})
    assert errors == ({damage.kind, *damage.also} if damage.is_error else set())
    assert "unexpected-exception" not in {kind for kind, _ in found}
    # All that can be opened was opened.
    if damage.image is not None:
        assert [part["opened"] for part in report.parts] == [3, 2]
    if damage.is_error and damage.kind not in WHOLE:
        compare_texts(tmp_path, damage, report)


def compare_texts(root, damage, report):
    """Training, whoever skips and the check say the same of what is wrong."""
    raised = problems_of(root, damage.data_format, Problems())
    if damage.kind != "not-opened":
        assert [problem.kind for problem in raised] == [damage.kind]
    listed = [
        (finding["kind"], item["file"], item["detail"])
        for part in report.parts
        for finding in part["findings"]
        for item in finding["listed"]
    ]
    for problem in raised:
        assert problem[:3] in listed
        skipped = CollectedProblems()
        assert problem in [*problems_of(root, damage.data_format, skipped), *skipped.errors()]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_training_refuses_errors_and_nothing_else(tmp_path, damage):
    write_damaged(damage, tmp_path)
    refused = {}
    try:
        samples, _ = open_samples(DataRecipe(root=str(tmp_path), format=damage.data_format))
    except RecipeError as error:
        refused[None] = str(error)
    else:
        for index in range(len(samples)):
            try:
                samples[index]
            except (ValueError, OSError) as error:
                refused[index] = str(error)
    assert list(refused) == ([damage.image] if damage.is_error else [])
    for message in refused.values():
        assert str(tmp_path) in message
        assert Path(damage.file).name in message


@pytest.mark.parametrize(
    "damage", [damage for damage in DAMAGES if damage.is_error and damage.image is not None], ids=lambda item: item.name
)
def test_training_leaves_out_what_cannot_be_read(tmp_path, damage):
    write_damaged(damage, tmp_path)
    samples, _ = open_samples(DataRecipe(root=str(tmp_path), format=damage.data_format))
    transformed = TransformedSamples(samples, TrainTransform(), seed=0, max_skipped=1)
    loaded = [transformed[0, index] for index in range(len(samples))]
    assert [len(item.unreadable) for item in loaded] == [index == damage.image for index in range(len(samples))]
    assert Path(damage.file).name in loaded[damage.image].unreadable[0]
    stand_in = loaded[(damage.image + 1) % len(samples)].sample
    assert loaded[damage.image].sample.file_name == stand_in.file_name
