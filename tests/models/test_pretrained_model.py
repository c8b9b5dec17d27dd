# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest
import torch
from transformers import Mask2FormerForUniversalSegmentation

from tests.models.unisegment.original_files import BACKBONES, SIZES, original_state_dict, stock_model, write_pickle
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.models.configuration import SegmentationConfig


@pytest.fixture
def model():
    return UniSegmentForUniversalSegmentation(UniSegmentConfig(backbone_config=BACKBONES["swin"], **SIZES))


def test_overridden_keys_are_checked_together_with_the_others(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"feature_size must be a multiple of 32 \(group norm\), got 40"):
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, feature_size=40)
    names = {0: "a", 1: "b", 2: "c", 3: "d", 4: "e", 5: "f", 6: "g"}
    loaded = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, id2label=names)
    assert loaded.config.id2label == names
    assert loaded.config.label2id["g"] == 6
    config = UniSegmentForUniversalSegmentation.from_pretrained(
        tmp_path, num_labels=2, ignore_mismatched_sizes=True
    ).config
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1}


class OtherConfig(SegmentationConfig):
    model_type = "other"


def test_the_config_of_another_family_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    message = "is made of a UniSegmentConfig, got a config that is a OtherConfig"
    with pytest.raises(ValueError, match=message):
        UniSegmentForUniversalSegmentation(OtherConfig(num_labels=3))
    with pytest.raises(ValueError, match=message):
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, config=OtherConfig(num_labels=3))


def test_part_of_the_backbone_config_can_be_overridden(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, backbone_config={"drop_path_rate": 0.1})
    assert loaded.config.backbone_config.drop_path_rate == 0.1
    assert loaded.config.backbone_config.depths == [1, 2, 2, 1]


def opened(path, **keywords):
    kind = UniSegmentForUniversalSegmentation
    load = kind.from_original if path.suffix else kind.from_pretrained
    return load(path, **keywords).eval()


@pytest.mark.parametrize("place", ["ours", "stock", "original.pth"])
def test_last_decoder_layers_are_left_out_on_loading(model, tmp_path, caplog, place):
    path = tmp_path / place
    if path.suffix:
        model.export_original(path)
    else:
        model.save_pretrained(path, format="transformers" if place == "stock" else "unisegment")
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        predictions = opened(path)(images, output_auxiliary_logits=True).auxiliary_logits
        assert len(predictions) == 3
        for layers in (1, 3):
            caplog.clear()
            shorter = opened(path, decoder_layers=layers)
            assert caplog.text == ""
            shorter.save_pretrained(tmp_path / "shorter")  # with nothing in it but what it is made of
            again, report = UniSegmentForUniversalSegmentation.from_pretrained(
                tmp_path / "shorter", output_loading_info=True
            )
            assert not any(report.values())
            assert again.config.decoder_layers == layers
            assert len(again.transformer_decoder.layers) == layers - 1
            for loaded in (shorter, again.eval()):
                found = loaded(images)
                for name, expected in predictions[layers - 1].items():
                    torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-4)


def test_more_layers_than_a_checkpoint_has_are_an_error(model, tmp_path):
    model.save_pretrained(tmp_path)
    for value, message in (
        (5, r"decoder_layers=5 is more than the checkpoint has, expected at most 4\. .*ignore_mismatched_sizes=True"),
        (0, "decoder_layers: 0, expected a whole number from 1 to"),
        (True, "decoder_layers: True, expected a whole number"),
        ("2", "decoder_layers: '2', expected a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, decoder_layers=value)
    deeper = UniSegmentForUniversalSegmentation.from_pretrained(
        tmp_path, decoder_layers=5, ignore_mismatched_sizes=True
    )
    assert len(deeper.transformer_decoder.layers) == 4


def test_weights_that_are_left_over_in_a_layer_that_stays_are_an_error(model, tmp_path):
    weights = model.state_dict() | {"transformer_decoder.layers.0.more": torch.zeros(2)}
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(ValueError, match=r"1 are left over \(first: \['transformer_decoder.layers.0.more'\]\)"):
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, decoder_layers=2)


@pytest.mark.parametrize("format", ["unisegment", "transformers"])
def test_the_name_of_a_model_is_where_it_came_from(model, tmp_path, format):
    model.save_pretrained(tmp_path, format=format)
    loaded = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path)
    assert loaded.name_or_path == loaded.config._name_or_path == str(tmp_path)


@pytest.mark.parametrize("format", ["unisegment", "transformers"])
def test_unknown_keys_stay_in_a_checkpoint(model, tmp_path, caplog, format):
    model.save_pretrained(tmp_path, format=format)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {f"key_of_{format}": [1, 2]}))
    loaded = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, num_queries=model.config.num_queries)
    assert [record.getMessage() for record in caplog.records if "does not know" in record.getMessage()] != []
    loaded.save_pretrained(tmp_path / "again", format=format)
    assert json.loads((tmp_path / "again" / "config.json").read_text())[f"key_of_{format}"] == [1, 2]
    with pytest.raises(ValueError, match=r"'num_querys' is not a key .* 'num_queries'"):
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, num_querys=3)


def test_a_file_of_the_original_code_is_sent_to_its_own_method(tmp_path):
    path = write_pickle(tmp_path / "model.pkl", original_state_dict(stock_model("resnet")))
    with pytest.raises(ValueError, match=r"'.*model\.pkl' is a file\. .* `from_original`"):
        UniSegmentForUniversalSegmentation.from_pretrained(path)


def test_a_truncated_checkpoint_is_an_error(model, tmp_path):
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"The weights of .* cannot be read: .* The file is damaged"):
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path)


def test_state_dict_and_config_need_no_files(model):
    loaded = UniSegmentForUniversalSegmentation.from_pretrained(
        None, config=model.config, state_dict=model.state_dict()
    )
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())


@pytest.fixture
def hub(monkeypatch):
    """Let uploads end in a folder."""
    uploads = {}

    class Api:
        def create_repo(self, repo_id, **_):
            return type("Repo", (), {"repo_id": repo_id})

        def create_commit(self, repo_id, operations, **_):
            uploads[repo_id] = {item.path_in_repo: Path(item.path_or_fileobj).read_bytes() for item in operations}

    class Card:
        def save(self, path):
            pass

    monkeypatch.setattr("transformers.utils.hub.hf_api", lambda: Api(), raising=False)
    monkeypatch.setattr("transformers.utils.hub.create_and_tag_model_card", lambda *_, **__: Card())
    return uploads


@pytest.mark.parametrize(("format", "model_type"), [("unisegment", "unisegment"), ("transformers", "mask2former")])
def test_push_to_hub_uploads_what_save_pretrained_writes(model, tmp_path, hub, format, model_type, monkeypatch):
    monkeypatch.setattr(model.config, "backbone", "/home/me/resnet.pth")
    model.push_to_hub("someone/model", format=format)
    assert model.config.backbone == "/home/me/resnet.pth"
    assert b"/home/me" not in hub["someone/model"]["config.json"]
    assert json.loads(hub["someone/model"]["config.json"])["model_type"] == model_type
    for name, content in hub["someone/model"].items():
        (tmp_path / name).write_bytes(content)
    kind = Mask2FormerForUniversalSegmentation if format == "transformers" else UniSegmentForUniversalSegmentation
    _, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]


def changed(folder, name="config.json", **keys):
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


@pytest.mark.parametrize("format", ["unisegment", "transformers"])
def test_a_model_larger_than_its_weights_is_refused_before_it_is_built(model, tmp_path, format):
    model.save_pretrained(tmp_path, format=format)
    changed(tmp_path, hidden_dim=32_000, dim_feedforward=32_000)
    with pytest.raises(ValueError, match=r"config.json, the model has \d{10,} numbers, its weights \d{7} bytes"):
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path)
    changed(tmp_path, hidden_dim=-1)
    with pytest.raises(ValueError, match=r"config.json, hidden_dim: -1, expected a whole number"):
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path)


@pytest.mark.parametrize("format", ["unisegment", "transformers"])
def test_an_index_that_leads_out_of_the_folder_is_refused(model, tmp_path, format):
    model.save_pretrained(tmp_path / "model", format=format, max_shard_size="40KB")
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    name = next(iter(index["weight_map"].values()))
    (tmp_path / "model" / name).rename(tmp_path / name)
    for other in (f"../{name}", str(tmp_path / name), name):
        weight_map = {key: other if value == name else value for key, value in index["weight_map"].items()}
        changed(tmp_path / "model", "model.safetensors.index.json", weight_map=weight_map)
        with pytest.raises(ValueError, match=r"index.json, ('.*' is no name of a file in|weight_map: .* is not there)"):
            UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "model")


def test_a_backbone_that_transformers_cannot_build_is_an_error(model, tmp_path):
    model.save_pretrained(tmp_path)
    backbone = model.config.backbone_config.to_dict()
    for keys in ({"hidden_act": "os.system"}, {"num_heads": [0, 0, 0, 0]}, {"patch_size": 0}):
        changed(tmp_path, backbone_config=backbone | keys)
        with pytest.raises(ValueError, match=r"config.json, backbone_config: transformers cannot build this 'swin'"):
            UniSegmentForUniversalSegmentation.from_pretrained(tmp_path)
