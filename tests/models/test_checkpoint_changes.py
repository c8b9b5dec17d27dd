# SPDX-License-Identifier: Apache-2.0
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.unisegment.original_files import BACKBONES, SIZES, original_state_dict, stock_model, write_pickle
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.models.checkpoint_changes import Change, adapt, differs, new_weights, require_complete

ANIMALS = {0: "cat", 1: "dog", 2: "horse", 3: "cow", 4: "sheep", 5: "bear", 6: "zebra"}
QUERIES = UniSegmentForUniversalSegmentation.query_tables
CLASS_HEAD = "transformer_decoder.predictor.class_head"


@pytest.fixture(scope="module")
def model():
    config = UniSegmentConfig(backbone_config=BACKBONES["resnet"], **SIZES | {"id2label": ANIMALS})
    model = UniSegmentForUniversalSegmentation(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    return model


@pytest.fixture(scope="module", params=["ours", "stock", "original"])
def opened(request, model, tmp_path_factory):
    """Return a function that opens the same checkpoint, kept in one of the three formats."""
    path = tmp_path_factory.mktemp(request.param)
    kind = UniSegmentForUniversalSegmentation
    if request.param == "original":
        model.export_original(path / "model.pkl")
        return lambda **keys: kind.from_original(path / "model.pkl", **{"id2label": ANIMALS, **keys})
    model.save_pretrained(path, format="unisegment" if request.param == "ours" else "transformers")
    return lambda **keys: kind.from_pretrained(path, **keys)


def test_classes_of_equal_name_keep_their_weights(model, tmp_path):
    model.save_pretrained(tmp_path)
    names = {0: "zebra", 1: "unicorn", 2: "dog", 3: "griffin"}
    changed, report = UniSegmentForUniversalSegmentation.from_pretrained(
        tmp_path, id2label=names, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert changed.config.id2label == names
    assert changed.config.label2id == {name: label for label, name in names.items()}
    for leaf in ("weight", "bias"):
        old, new = model.state_dict()[f"{CLASS_HEAD}.{leaf}"], changed.state_dict()[f"{CLASS_HEAD}.{leaf}"]
        assert len(new) == 5
        for row, source in ((0, 6), (2, 1), (4, 7)):  # the last one is "no object"
            assert torch.equal(new[row], old[source])
        for row in (1, 3):
            assert 0 < new[row].abs().max() <= 1 / 64**0.5  # as a new layer of torch
    classes = report["changes"]["classes"]
    assert classes == Change(["zebra", "dog"], ["unicorn", "griffin"], ["cat", "horse", "cow", "sheep", "bear"])
    others = set(model.state_dict()) - {f"{CLASS_HEAD}.weight", f"{CLASS_HEAD}.bias"}
    assert all(torch.equal(changed.state_dict()[name], model.state_dict()[name]) for name in others)


@pytest.mark.parametrize("count", [5, 13, 20])
def test_the_first_queries_are_kept(model, opened, count):
    changed = opened(num_queries=count, ignore_mismatched_sizes=True)
    for name in ("transformer_decoder.query_features.weight", "transformer_decoder.query_pos.weight"):
        old, new = model.state_dict()[name], changed.state_dict()[name]
        assert len(new) == count
        assert torch.equal(new[:13], old[:count])
        if count > 13:
            assert new[13:].std().item() == pytest.approx(1, abs=0.2)  # 7 rows of 64 normal numbers
    assert changed(torch.randn(1, 3, 64, 96)).class_queries_logits.shape == (1, count, 8)


@pytest.mark.parametrize(("count", "expected"), [(20, {"query_features", "query_pos"}), (11, set()), (13, set())])
def test_weights_with_new_rows_of_queries_are_new(opened, count, expected):
    _, report = opened(num_queries=count, ignore_mismatched_sizes=True, output_loading_info=True)
    assert new_weights(report["changes"], QUERIES) == {f"transformer_decoder.{name}.weight" for name in expected}


@pytest.mark.parametrize("decoder_layers", [1, 2, 6])
def test_other_numbers_of_layers(model, opened, caplog, decoder_layers):
    with caplog.at_level(logging.WARNING, "unisegment"):
        changed, report = opened(decoder_layers=decoder_layers, ignore_mismatched_sizes=True, output_loading_info=True)
    weights = report["changes"]["weights"]
    assert new_weights(report["changes"], QUERIES) == set(weights.made)
    shared = set(model.state_dict()) & set(changed.state_dict())
    assert set(weights.kept) == shared
    assert all(torch.equal(changed.state_dict()[name], model.state_dict()[name]) for name in shared)
    for names, layers in (
        (weights.made, range(3, decoder_layers - 1)),
        (weights.dropped, range(decoder_layers - 1, 3)),
    ):
        assert {int(name.split(".")[2]) for name in names} == set(layers)
    assert f"weights: {len(shared)} kept" in caplog.text
    assert all(bool(torch.isfinite(parameter).all()) for parameter in changed.parameters())


def test_all_at_once_is_reported(opened, caplog):
    with caplog.at_level(logging.WARNING, "unisegment"):
        opened(
            id2label={0: "dog", 1: "unicorn"}, num_queries=15, decoder_layers=2, pixel_decoder="fpn",
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    lines = [line.strip() for line in caplog.text.splitlines()]
    assert "queries: 13 kept, 2 made (13, 14)" in lines
    if "classes: 0 kept" not in caplog.text:  # the original format has no names
        assert "classes: 1 kept, 1 made (unicorn), 6 dropped (cat, horse, cow, sheep, bear, …)" in lines
    assert any(line.startswith("weights: ") and "dropped (pixel_decoder." in line for line in lines)


def test_as_many_new_names_may_be_meant_as_a_renaming(model, opened, caplog):
    names = {label: f"kind of {name}" for label, name in ANIMALS.items()}
    with caplog.at_level(logging.WARNING, "unisegment"):
        opened(id2label=names, ignore_mismatched_sizes=True)
    has_dropped = "classes: 0 kept, 7 made" in caplog.text  # the original format has no names
    assert ("load it without ignore_mismatched_sizes=True" in caplog.text) == has_dropped
    # What the line says is true: the names are new, and every weight is kept.
    caplog.clear()
    renamed = opened(id2label=names)
    assert renamed.config.id2label == names
    assert caplog.text == ""
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in renamed.state_dict().items())


@pytest.mark.parametrize(
    "keys", [{"num_queries": 11}, {"decoder_layers": 2}, {"id2label": {label: f"{label}" for label in range(8)}}]
)
def test_other_changes_are_no_renaming(opened, caplog, keys):
    with caplog.at_level(logging.WARNING, "unisegment"):
        opened(**{"id2label": {label: f"no. {label}" for label in ANIMALS}, **keys}, ignore_mismatched_sizes=True)
    assert "The model differs" in caplog.text
    assert "without ignore_mismatched_sizes" not in caplog.text


def test_nothing_is_said_where_nothing_changed(opened, caplog):
    with caplog.at_level(logging.WARNING, "unisegment"):
        _, report = opened(ignore_mismatched_sizes=True, output_loading_info=True)
    assert caplog.text == ""
    assert report["changes"]["weights"].made == report["changes"]["weights"].dropped == []


def test_a_whole_config_says_what_is_wanted(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = UniSegmentConfig.from_pretrained(tmp_path, num_queries=3)
    changed = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, config=config, ignore_mismatched_sizes=True)
    assert torch.equal(changed.transformer_decoder.query_pos.weight, model.transformer_decoder.query_pos.weight[:3])


@pytest.mark.parametrize(
    "keys", [{"id2label": {0: "cat"}}, {"num_labels": 3}, {"num_queries": 14}, {"encoder_layers": 9}]
)
def test_a_change_that_was_not_announced_is_an_error(opened, keys):
    with pytest.raises(ValueError, match=r"do not fit the config: .* fetch it again, .* intended, pass ignore"):
        opened(**keys)


def test_weights_that_do_not_fit_are_one_line_that_names_the_checkpoint(model, tmp_path, caplog):
    for layout in ("unisegment", "transformers"):
        folder = tmp_path / layout
        model.save_pretrained(folder, format=layout)
        weights = load_file(folder / "model.safetensors")
        weights["layers.99999999.weight"] = weights.pop(next(iter(weights)))
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        caplog.clear()
        with pytest.raises(ValueError, match=rf"^The weights of '{folder}' do not fit the config: 1 are missing"):
            UniSegmentForUniversalSegmentation.from_pretrained(folder)
        assert "LOAD REPORT" not in caplog.text


def test_names_that_say_nothing_are_replaced(tmp_path):
    stock = stock_model("resnet")
    path = write_pickle(tmp_path / "model.pkl", original_state_dict(stock))
    named = UniSegmentForUniversalSegmentation.from_original(path, id2label=ANIMALS, ignore_mismatched_sizes=True)
    assert named.config.id2label == ANIMALS
    assert torch.equal(named.state_dict()[f"{CLASS_HEAD}.weight"], stock.class_predictor.weight)


def test_adapting_leaves_its_input_alone(model):
    target = UniSegmentConfig(**{**model.config.to_dict(), "num_queries": 2})
    assert differs(model.config, target)
    assert not differs(model.config, model.config)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapted, changes = adapt(weights, model.config, target, model.class_head, model.query_tables)
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert adapted["transformer_decoder.query_pos.weight"].shape == (2, 64)
    assert changes["queries"] == Change([0, 1], [], list(range(2, 13)))


def test_a_complete_report_passes():
    require_complete({"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()})
    with pytest.raises(ValueError, match=r"1 are missing \(first: \['a'\]\), 0 are left over"):
        require_complete({"missing_keys": {"a"}, "unexpected_keys": set(), "mismatched_keys": set()})
