# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from tests.models.unisegment.original_files import original_state_dict, stock_model, write_pickle
from unisegment.training.assembly import build_model, open_samples
from unisegment.training.recipe import DataRecipe, ModelRecipe, Recipe, RunRecipe, ScheduleRecipe
from unisegment.training.settings import RecipeError


def test_drawn_scenes_are_made_once(tmp_path):
    data = DataRecipe(root=str(tmp_path / "scenes"), format="synthetic", num_train=3, num_val=2)
    train, held_out = open_samples(data)
    assert (len(train), len(held_out)) == (3, 2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    open_samples(data)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_scenes_of_another_recipe_are_not_taken_for_ours(tmp_path):
    root = str(tmp_path / "scenes")
    open_samples(DataRecipe(root=root, format="synthetic", num_train=3, num_val=2))
    wanted = DataRecipe(root=root, format="synthetic", num_train=3, num_val=5)
    with pytest.raises(RecipeError, match=r"holds 3 scenes for training and 2 held out, .* data\.num_val=5"):
        open_samples(wanted)


def test_a_missing_data_set_is_an_error_that_says_what_was_looked_for(tmp_path):
    with pytest.raises(RecipeError, match=r"data\.root=.*gone: (.|\n)*panoptic_train2017\.json"):
        open_samples(DataRecipe(root=str(tmp_path / "gone")))


def test_training_starts_from_every_format(tmp_path):
    data = DataRecipe(root=str(tmp_path / "scenes"), format="synthetic", num_train=1, num_val=1)
    samples, _ = open_samples(data)
    stock = stock_model("resnet")
    stock.save_pretrained(tmp_path / "stock")
    write_pickle(tmp_path / "model.pkl", original_state_dict(stock))
    for source in ("stock", "model.pkl"):
        recipe = Recipe(
            data=data,
            model=ModelRecipe(pretrained=str(tmp_path / source)),
            schedule=ScheduleRecipe(max_steps=1),
            run=RunRecipe(output_dir=str(tmp_path / "run")),
        )
        model, processor = build_model(recipe, samples)
        assert model.config.id2label == samples.id2label
        assert torch.equal(
            model.transformer_decoder.query_pos.weight, stock.model.transformer_module.queries_embedder.weight
        )
        assert processor.stuff_label_ids == samples.stuff_label_ids
        assert processor.size == {"shortest_edge": data.shortest_edge, "longest_edge": data.longest_edge}
