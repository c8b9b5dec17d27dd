# SPDX-License-Identifier: Apache-2.0
import pickle
import re

import pytest
import torch
from safetensors.torch import save_file

from tests.models.unisegment.original_files import original_state_dict, stock_model, write_pickle
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.models.unisegment.original_checkpoints import write_original


def assert_same_logits(ours, theirs, size=(64, 96)):
    pixel_values = torch.randn(2, 3, *size)
    with torch.no_grad():
        mine = ours.eval()(pixel_values, output_auxiliary_logits=True)
        expected = theirs(pixel_values, output_auxiliary_logits=True)
    for one, other in zip([mine, *mine.auxiliary_logits], [expected, *expected.auxiliary_logits], strict=True):
        for key in ("class_queries_logits", "masks_queries_logits"):
            assert (one[key] - other[key]).abs().max() <= 1e-4 * other[key].abs().max()


@pytest.mark.parametrize("backbone", ["swin", "resnet", "basic resnet"])
def test_everything_follows_from_the_weights(tmp_path, backbone):
    stock = stock_model(backbone)
    ours = UniSegmentForUniversalSegmentation.from_original(
        write_pickle(tmp_path / "model_final_94dc52.pkl", original_state_dict(stock))
    )
    for key, value in stock.config.to_dict().items():
        if key not in (
            "backbone_config",
            "model_type",
            "architectures",
            "transformers_version",
            "dtype",
            "_name_or_path",
        ):
            assert getattr(ours.config, key) == value, key
    for key in ("depths", "hidden_sizes", "embedding_size", "layer_type", "embed_dim", "num_heads", "window_size"):
        assert getattr(ours.config.backbone_config, key, None) == getattr(stock.config.backbone_config, key, None), key
    assert ours.name_or_path == str(tmp_path / "model_final_94dc52.pkl")
    assert ours.config.freeze_backbone_norm is True
    assert ours.config.base_weights == [{"name": "model_final_94dc52.pkl", "license": "cc-by-nc-4.0"}]
    assert_same_logits(ours, stock)


def renamed(state_dict, form):
    if form == "module.":
        return {"module." + name: tensor for name, tensor in state_dict.items()}
    if form == "static_query":
        return {name.replace("query_feat", "static_query"): tensor for name, tensor in state_dict.items()}
    if form == "doubled":
        return {name.replace("pixel_decoder.", "pixel_decoder.pixel_decoder."): t for name, t in state_dict.items()}
    return {name.replace("pixel_decoder.", ""): tensor for name, tensor in state_dict.items()}


@pytest.mark.parametrize("form", ["module.", "static_query", "doubled", "without pixel_decoder."])
@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".safetensors"])
def test_every_form_of_names_and_files(tmp_path, form, suffix):
    stock = stock_model("swin")
    state_dict = renamed(original_state_dict(stock), form)
    path = tmp_path / f"model{suffix}"
    if suffix == ".pkl":
        write_pickle(path, state_dict)
    elif suffix == ".pth":
        torch.save(
            {"model": state_dict, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "iteration": 5}, path
        )
    else:
        save_file(state_dict, path)
    assert_same_logits(UniSegmentForUniversalSegmentation.from_original(path), stock)


def test_trained_batch_norm_stays_so(tmp_path):
    stock = stock_model("resnet")
    path = write_pickle(tmp_path / "model.pkl", original_state_dict(stock, batch_norm="synchronised"))
    ours = UniSegmentForUniversalSegmentation.from_original(path)
    assert ours.config.freeze_backbone_norm is False
    assert_same_logits(ours, stock)
    frozen = UniSegmentForUniversalSegmentation.from_original(path, freeze_backbone_norm=True)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in frozen.modules())
    assert_same_logits(frozen, stock)


def test_what_no_weight_tells_is_an_argument(tmp_path):
    stock = stock_model("resnet", pre_norm=True)
    path = write_pickle(tmp_path / "model.pkl", original_state_dict(stock))
    id2label = {label: f"class {label}" for label in range(7)}
    ours = UniSegmentForUniversalSegmentation.from_original(
        path, pre_norm=True, id2label=id2label, dice_weight=3.0, license="apache-2.0", dtype=torch.float64
    )
    assert ours.config.id2label == id2label
    assert ours.config.label2id == {name: label for label, name in id2label.items()}
    assert ours.criterion.dice_weight == 3.0
    assert ours.config.base_weights == [{"name": "model.pkl", "license": "apache-2.0"}]
    assert ours.dtype == torch.float64
    assert_same_logits(ours.float(), stock)
    # 4 heads of 4 points on 3 levels have as many weights as 8 heads of 2 points.
    config = UniSegmentForUniversalSegmentation.from_original(path, num_attention_heads=8).config
    assert (config.num_attention_heads, config.encoder_n_points) == (8, 2)
    config = UniSegmentForUniversalSegmentation.from_original(path, encoder_n_points=1).config
    assert (config.num_attention_heads, config.encoder_n_points) == (16, 1)


@pytest.mark.parametrize("pixel_decoder", ["fpn", "transformer_fpn"])
@pytest.mark.parametrize("pre_norm", [False, True])
def test_the_other_pixel_decoders_come_back(tmp_path, pixel_decoder, pre_norm):
    stock = stock_model("swin").config
    keys = {key: getattr(stock, key) for key in ("feature_size", "mask_feature_size", "hidden_dim", "num_queries")}
    config = UniSegmentConfig(
        backbone_config=stock.backbone_config, pixel_decoder=pixel_decoder, pre_norm=pre_norm, decoder_layers=3,
        encoder_layers=2, num_labels=5, dim_feedforward=24, encoder_feedforward_dim=40, num_attention_heads=4, **keys,
    )  # fmt: skip
    model = UniSegmentForUniversalSegmentation(config).eval()
    model.export_original(tmp_path / "model.pth")
    names = torch.load(tmp_path / "model.pth", weights_only=True)["model"]
    assert names["sem_seg_head.pixel_decoder.layer_4.weight"].shape[:2] == (
        64,
        64 if "former" in pixel_decoder else 128,
    )
    assert names["sem_seg_head.pixel_decoder.adapter_3.weight"].shape[:2] == (64, 64)
    assert names["sem_seg_head.pixel_decoder.adapter_1.norm.bias"].shape == (64,)
    assert names["sem_seg_head.pixel_decoder.mask_features.weight"].shape == (48, 64, 3, 3)
    loaded = UniSegmentForUniversalSegmentation.from_original(
        tmp_path / "model.pth", num_attention_heads=4, pre_norm=pre_norm
    )
    assert loaded.config.pixel_decoder == pixel_decoder
    assert_same_logits(loaded, model)


@pytest.mark.parametrize("backbone", ["swin", "resnet"])
def test_three_doors_change_no_byte(tmp_path, backbone):
    state_dict = original_state_dict(stock_model(backbone))
    write_pickle(tmp_path / "theirs.pkl", state_dict)
    model = UniSegmentForUniversalSegmentation.from_original(tmp_path / "theirs.pkl")
    model.export_original(tmp_path / "first.pkl")
    model.save_pretrained(tmp_path / "ours")
    model = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "ours")
    model.save_pretrained(tmp_path / "stock", format="transformers")
    model = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "stock")
    assert model.config.base_weights == [{"license": "cc-by-nc-4.0", "name": "theirs.pkl"}]
    model.export_original(tmp_path / "second.pkl")
    assert (tmp_path / "first.pkl").read_bytes() == (tmp_path / "second.pkl").read_bytes()
    content = pickle.loads((tmp_path / "second.pkl").read_bytes())
    assert content["model"].keys() == state_dict.keys()
    for name, tensor in state_dict.items():
        assert content["model"][name].dtype == tensor.numpy().dtype, name
        assert content["model"][name].tobytes() == tensor.numpy().tobytes(), name


def test_files_for_the_original_say_which_release_their_names_are_of(tmp_path):
    model = UniSegmentForUniversalSegmentation.from_original(
        write_pickle(tmp_path / "theirs.pkl", original_state_dict(stock_model("resnet")))
    )
    model.export_original(tmp_path / "model.pkl")
    raw = (tmp_path / "model.pkl").read_bytes()
    assert b"numpy._core" not in raw  # older releases of numpy have no such module
    metadata = pickle.loads(raw)["model"]._metadata
    assert metadata["sem_seg_head"] == metadata["sem_seg_head.predictor"] == {"version": 2}
    for suffix in (".pth", ".safetensors"):
        model.export_original(tmp_path / f"model{suffix}")
        again = UniSegmentForUniversalSegmentation.from_original(tmp_path / f"model{suffix}")
        for name, value in model.state_dict().items():
            assert torch.equal(again.state_dict()[name], value), name


def test_a_failed_export_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "model.pkl"
    model = UniSegmentForUniversalSegmentation.from_original(
        write_pickle(path, original_state_dict(stock_model("resnet")))
    )
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"\.pkl file cannot hold bfloat16: write a \.pth or \.safetensors file"):
        model.bfloat16().export_original(path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unisegment.models.unisegment.original_checkpoints._PortablePickler.dump", full)
    with pytest.raises(OSError, match="No space left"):
        model.float().export_original(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.pkl"]
    with pytest.raises(ValueError, match=r"must end with one of \.pkl, \.pth, \.safetensors"):
        model.export_original(tmp_path / "model.onnx")


def test_what_the_original_does_not_have_is_named(tmp_path):
    config = UniSegmentConfig(
        backbone_config={"model_type": "convnext", "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
        feature_size=32, hidden_dim=32, decoder_layers=2, encoder_layers=1, num_queries=3,
    )  # fmt: skip
    with pytest.raises(ValueError, match="no pixel decoder 'ms_deform_attn' with backbone 'convnext'; it has ms_def"):
        UniSegmentForUniversalSegmentation(config).export_original(tmp_path / "model.pkl")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def state_dict():
    return original_state_dict(stock_model("swin"))


class TestWrongFiles:
    def fails(self, tmp_path, state_dict, match):
        path = write_pickle(tmp_path / "model.pkl", state_dict)
        with pytest.raises(ValueError, match=match):
            UniSegmentForUniversalSegmentation.from_original(path)

    def test_mask_r_cnn(self, tmp_path):
        names = (
            "backbone.bottom_up.stem.conv1.weight",
            "proposal_generator.rpn_head.conv.weight",
            "roi_heads.fc1.bias",
        )
        match = r"model\.pkl': This is not a checkpoint of the original Mask2Former: .* example backbone\.bottom_up\."
        self.fails(tmp_path, {name: torch.zeros(2) for name in names}, match)

    def test_another_backbone(self, tmp_path, state_dict):
        other = {re.sub(r"^backbone\.", "backbone.net.", name): tensor for name, tensor in state_dict.items()}
        self.fails(tmp_path, other, r"neither a ResNet nor a Swin of the original code: found backbone\.net\.")

    def test_a_weight_that_nobody_knows(self, tmp_path, state_dict):
        match = r"The original Mask2Former has no weights named 'sem_seg_head\.pixel_decoder\.gate\.weight'"
        self.fails(tmp_path, {**state_dict, "sem_seg_head.gate.weight": torch.zeros(1)}, match)

    def test_a_missing_weight(self, tmp_path, state_dict):
        name = "sem_seg_head.predictor.transformer_ffn_layers.1.linear2.bias"
        rest = {key: value for key, value in state_dict.items() if key != name}
        self.fails(
            tmp_path, rest, r"1 are missing \(first: \['transformer_decoder\.layers\.1\.feed_forward\.linear2\.b"
        )

    def test_a_missing_layer(self, tmp_path, state_dict):
        rest = {key: value for key, value in state_dict.items() if ".transformer_ffn_layers.1." not in key}
        self.fails(tmp_path, rest, r"6 are missing")

    def test_a_weight_of_another_shape(self, tmp_path, state_dict):
        name = "sem_seg_head.pixel_decoder.transformer.encoder.layers.1.linear1.weight"
        match = r"1 have another shape \(first: \['pixel_decoder.* is \(56, 63\), expected \(56, 64\)"
        self.fails(tmp_path, {**state_dict, name: torch.zeros(56, 63)}, match)

    def test_tables_that_fit_no_window(self, tmp_path, state_dict):
        name = "backbone.layers.2.blocks.1.attn.relative_position_bias_table"
        match = r"relative_position_bias_table' has shape \(26, 4\); a square window has"
        self.fails(tmp_path, {**state_dict, name: torch.zeros(26, 4)}, match)

    def test_tables_that_disagree(self, tmp_path, state_dict):
        name = "backbone.layers.2.blocks.1.attn.relative_position_bias_table"
        self.fails(tmp_path, {**state_dict, name: torch.zeros(49, 4)}, "All windows of a Swin have the same size")

    def test_an_index_of_another_window(self, tmp_path, state_dict):
        name = "backbone.layers.0.blocks.0.attn.relative_position_index"
        match = r"relative_position_index' is \(49, 49\), but the bias tables are those of windows of 3 by 3 patches"
        self.fails(tmp_path, {**state_dict, name: torch.zeros(49, 49, dtype=torch.int64)}, match)

    def test_heads_that_fit_nothing(self, tmp_path, state_dict):
        name = "sem_seg_head.pixel_decoder.transformer.encoder.layers.0.self_attn.attention_weights.weight"
        match = "has 50 weights for 3 levels, .* Say num_attention_heads or encoder_n_points"
        self.fails(tmp_path, {**state_dict, name: torch.zeros(50, 64)}, match)

    def test_one_weight_under_two_names(self, tmp_path, state_dict):
        name = "sem_seg_head.predictor.static_query.weight"
        match = r"'.*static_query\.weight' is in the checkpoint twice, under an old and a new name"
        self.fails(tmp_path, {**state_dict, name: torch.zeros(13, 64)}, match)

    def test_config_for_no_such_model(self, tmp_path):
        config = UniSegmentConfig(num_labels=3)
        with pytest.raises(ValueError, match="no weights named 'x'"):
            write_original(tmp_path / "model.pth", config, {"x": torch.zeros(1)})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "sem_seg_head.predictor.transformer_ffn_layers.99999999.norm.weight",
            r"layers\.99999999, but none of .*layers\.",
        ),
        (
            "sem_seg_head.pixel_decoder.transformer.encoder.layers.99999999.norm1.weight",
            r"layers\.99999999, but none of",
        ),
        ("backbone.layers.0.blocks.99999999.norm1.weight", "has a layer 2 or above, but no layer 1"),
    ],
)
def test_layers_are_those_that_the_file_has(tmp_path, name, message):
    weights = original_state_dict(stock_model("swin")) | {name: torch.zeros(3)}
    with pytest.raises(ValueError, match=message):
        UniSegmentForUniversalSegmentation.from_original(write_pickle(tmp_path / "model.pkl", weights))


def test_sizes_follow_from_weights_that_are_there(tmp_path):
    weights = original_state_dict(stock_model("resnet"))
    name = "sem_seg_head.predictor.query_feat.weight"
    path = write_pickle(tmp_path / "model.pkl", weights | {name: torch.zeros(1, 32_000)})
    with pytest.raises(ValueError, match=r"model.pkl, the model has \d{9,} numbers, its weights \d+ bytes"):
        UniSegmentForUniversalSegmentation.from_original(path)
    path = write_pickle(tmp_path / "model.pkl", weights | {"criterion.empty_weight": torch.tensor(1.0)})
    with pytest.raises(ValueError, match=r"criterion.empty_weight has shape \(\)"):
        UniSegmentForUniversalSegmentation.from_original(path)
