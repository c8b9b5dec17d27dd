# SPDX-License-Identifier: Apache-2.0
import pytest

from unisegment.runs.lora_recipe import LoraRecipe
from unisegment.runs.recipe import load_recipe
from unisegment.runs.settings import RecipeError


def test_no_adapters_are_the_default():
    assert LoraRecipe().rank == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": -1}, r"rank must be a whole number from 0 to 65,536, got -1"),
        ({"alpha": 0}, r"alpha must be more than 0, got 0"),
        ({"dropout": 1}, r"dropout must be below 1, got 1"),
        ({"targets": r"(\w+)+!"}, r"repetitions .* can take years to match"),
        ({"targets": ".*" * 30 + "!"}, r"repetitions .* can take years to match"),
        ({"targets": "(q"}, r"targets='\(q' is not a regular expression"),
    ],
)
def test_values_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("quickstart", {f"model.lora.{key}": value for key, value in settings.items()})
