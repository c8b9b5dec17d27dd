# SPDX-License-Identifier: Apache-2.0
import pytest

from unisegment.runs.recipe import load_recipe
from unisegment.runs.schedule_recipe import ScheduleRecipe
from unisegment.runs.settings import RecipeError, parse_overrides

BASE = "data: {root: images}\noptim: {batch_size: 8}\nrun: {output_dir: out}\n"


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE + "schedule: {max_steps: 11}")
    return tmp_path / "base.yaml"


@pytest.mark.parametrize(
    ("epochs", "num_images", "batch_size", "steps"),
    # The third is 11.000000000000002 in floats.
    [(50, 100, 8, 625), (0.5, 7, 2, 2), (1.1, 10, 1, 11), (1, 16, 16, 1), (1e-9, 3, 4, 1), (3, 1, 2, 2)],
)
def test_epochs_are_the_fewest_steps_that_see_so_many_images(epochs, num_images, batch_size, steps):
    schedule = ScheduleRecipe(epochs=epochs, warmup_steps=3).counted(num_images, batch_size)
    assert schedule == ScheduleRecipe(max_steps=steps, warmup_steps=3)
    assert schedule.steps == steps
    assert schedule.counted(99, 1) is schedule


def test_steps_that_are_not_counted_yet_are_not_told(base):
    with pytest.raises(ValueError, match=r"epochs=2: the number of steps depends on the data"):
        _ = ScheduleRecipe(epochs=2).steps
    recipe = load_recipe(base, {"schedule.epochs": 2})
    assert recipe.counted(12).schedule.steps == 3
    assert recipe.counted(12).optim == recipe.optim
    with pytest.raises(RecipeError, match=r"schedule\.epochs=1e\+300 of 12 images in batches of 8 would be [\d,]+ "):
        load_recipe(base, {"schedule.epochs": 1e300}).counted(12)


@pytest.mark.parametrize("kind", ["override", "file", "recipe"])
def test_each_of_the_two_takes_the_place_of_the_other(base, tmp_path, kind):
    def changed(source, key, value):
        if kind == "file":
            number = len([*tmp_path.iterdir()])
            (tmp_path / f"{number}.yaml").write_text(f"extends: {source}\nschedule: {{{key}: {value}, power: 1}}")
            return tmp_path / f"{number}.yaml"
        return load_recipe(source, {f"schedule.{key}": value, "schedule.power": 1})

    by_epochs = changed(load_recipe(base) if kind == "recipe" else base, "epochs", 2.5)
    assert load_recipe(by_epochs).schedule == ScheduleRecipe(epochs=2.5, power=1)
    assert load_recipe(changed(by_epochs, "max_steps", 7)).schedule == ScheduleRecipe(max_steps=7, power=1)


def test_the_recipe_of_a_run_can_be_trained_for_epochs(base, tmp_path):
    (tmp_path / "run.yaml").write_text(load_recipe(base, {"schedule.epochs": 3}).counted(16).to_yaml())
    assert load_recipe(tmp_path / "run.yaml").schedule.max_steps == 6
    (tmp_path / "again.yaml").write_text("extends: run.yaml\nschedule: {epochs: 2}")
    assert load_recipe(tmp_path / "again.yaml").schedule == ScheduleRecipe(epochs=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epochs=0"], r"schedule: epochs must be a number of more than 0, got 0\.0\.$"),
        (["epochs=-1"], r"schedule\.epochs must be a finite number of at least 0 or null, got -1\.$"),
        (["epochs=.nan"], r"schedule\.epochs must be a finite number of at least 0 or null, got nan\.$"),
        (["epochs=.inf"], r"schedule\.epochs must be a finite number"),
        (["max_steps=0"], r"schedule\.max_steps must be a whole number from 1 to 2,147,483,647 or null, got 0\.$"),
        (["epochs=2", "max_steps=3"], r"either max_steps or epochs .*, but got 3 and 2\.0\. Set one of them\.$"),
        (["max_steps=null"], r"either max_steps or epochs says how long to train, but neither is set\. Set one"),
    ],
)
def test_what_is_no_length_of_a_run_is_refused(base, words, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(base, parse_overrides(f"schedule.{word}" for word in words))


def test_a_file_says_one_of_them(base):
    base.write_text(BASE + "schedule: {max_steps: 3, epochs: 2}")
    with pytest.raises(RecipeError, match=r"base\.yaml: schedule: either max_steps or epochs .* got 3 and 2\.0\."):
        load_recipe(base)
    base.write_text(BASE)
    with pytest.raises(RecipeError, match=r"base\.yaml: schedule: either .* neither is set"):
        load_recipe(base)
