# SPDX-License-Identifier: Apache-2.0
"""What transformers does to any model works with ours: Trainer, device maps, dtypes, kinds of attention."""

import numpy as np
import pytest
import torch
from transformers import ResNetConfig, SwinConfig, Trainer, TrainingArguments

from unisegment import (
    SegmentationTarget,
    UniSegmentConfig,
    UniSegmentForUniversalSegmentation,
    UniSegmentImageProcessor,
)
from unisegment.data.collate import Collate
from unisegment.data.formats import open_data_set
from unisegment.data.formats.synthetic import write_synthetic
from unisegment.metrics import MeanIoU, PanopticQuality
from unisegment.models.unisegment.outputs import UniSegmentOutput
from unisegment.ops.fused_products import plain_products

SWIN = SwinConfig(
    image_size=64, embed_dim=16, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8], window_size=3, drop_path_rate=0.0
)
RESNET = ResNetConfig(embedding_size=8, hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 2, 1])


def tiny_model(backbone_config=RESNET, **overrides):
    keys = {
        "feature_size": 32, "mask_feature_size": 16, "hidden_dim": 32, "encoder_layers": 2, "decoder_layers": 4,
        "num_queries": 7, "dim_feedforward": 48, "encoder_feedforward_dim": 40, "train_num_points": 61,
        "id2label": {0: "sky", 1: "car", 2: "tree"}, **overrides,
    }  # fmt: skip
    return UniSegmentForUniversalSegmentation(UniSegmentConfig(backbone_config=backbone_config.to_dict(), **keys))


@pytest.fixture
def saved(tmp_path):
    """A checkpoint, an input, and what the model makes of it."""
    model = tiny_model(SWIN).eval()
    model.save_pretrained(tmp_path / "checkpoint")
    pixel_values = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        return str(tmp_path / "checkpoint"), pixel_values, model(pixel_values)


def largest_difference(outputs, others):
    return max(
        (outputs[key].float() - others[key]).abs().max() for key in ("class_queries_logits", "masks_queries_logits")
    )


class Scores:
    """Panoptic quality and mean IoU of batches; as `compute_metrics`, of those that Trainer passes on."""

    def __init__(self, processor):
        self.processor = processor
        self.panoptic, self.semantic = PanopticQuality(3, processor.stuff_label_ids), MeanIoU(3)

    def __call__(self, batch, compute_result):
        keys = ("class_queries_logits", "masks_queries_logits", "image_sizes")
        self.update(UniSegmentOutput(**dict(zip(keys, batch.predictions, strict=True))), *batch.label_ids)
        return self.compute() if compute_result else None

    def update(self, outputs, mask_labels, class_labels):
        targets = [
            SegmentationTarget(masks=masks[:, :height, :width], labels=labels)
            for masks, labels, (height, width) in zip(
                mask_labels, class_labels, outputs.image_sizes.tolist(), strict=True
            )
        ]
        self.panoptic.update(self.processor.post_process_panoptic_segmentation(outputs, threshold=0.0), targets)
        self.semantic.update(self.processor.post_process_semantic_segmentation(outputs), targets)

    def compute(self):
        segments = self.panoptic.state.sum().item()
        scores = {"pq": self.panoptic.compute()["all"]["pq"], "miou": self.semantic.compute()["miou"]}
        self.panoptic.reset()
        self.semantic.reset()
        return {"segments": segments, **scores}


class TestTrainer:
    PROCESSOR = UniSegmentImageProcessor(size={"shortest_edge": 32, "longest_edge": 64}, stuff_label_ids=[0])

    def rows(self, counts=(3, 0, 5, 1, 4)):
        """Images of different size, with so many segments each."""
        noise = np.random.default_rng(0)
        rows = []
        for count, (height, width) in zip(counts, [(37, 53), (41, 31), (32, 64), (59, 43), (33, 35)], strict=False):
            id_map = torch.arange(height * width).view(height, width) * (count + 1) // (height * width)
            target = SegmentationTarget(
                labels=torch.arange(count) % 3, id_map=id_map, segment_ids=torch.arange(1, count + 1)
            )
            rows.append({"image": noise.integers(0, 256, (height, width, 3), dtype=np.uint8), "target": target})
        return rows

    def collate(self, rows):
        return self.PROCESSOR([row["image"] for row in rows], segmentation_targets=[row["target"] for row in rows])

    def trainer(self, folder, model=None, compute_metrics=None, **overrides):
        arguments = TrainingArguments(
            output_dir=str(folder),
            **{
                "per_device_train_batch_size": 2, "per_device_eval_batch_size": 1, "learning_rate": 1e-3,
                "batch_eval_metrics": True, "eval_do_concat_batches": False, "remove_unused_columns": False,
                "use_cpu": True, "dataloader_pin_memory": False, "disable_tqdm": True, "logging_steps": 1, **overrides,
            },
        )  # fmt: skip
        return Trainer(
            tiny_model() if model is None else model,
            arguments,
            data_collator=self.collate,
            train_dataset=self.rows(),
            eval_dataset=self.rows(),
            compute_metrics=compute_metrics,
            processing_class=self.PROCESSOR,
        )

    def scores_without_trainer(self, model):
        scores = Scores(self.PROCESSOR)
        for row in self.rows():
            inputs = self.collate([row])
            labels = inputs.pop("mask_labels"), inputs.pop("class_labels")
            with torch.no_grad():
                scores.update(model.eval()(**inputs), *labels)
        return scores.compute()

    @pytest.mark.parametrize("bf16", [False, True])
    def test_trains_evaluates_and_predicts(self, tmp_path, bf16):
        trainer = self.trainer(
            tmp_path, compute_metrics=Scores(self.PROCESSOR), gradient_accumulation_steps=2, max_steps=3, bf16=bf16
        )
        before = trainer.model.transformer_decoder.query_pos.weight.detach().clone()
        trainer.train()
        assert not torch.equal(trainer.model.transformer_decoder.query_pos.weight, before)
        predictions = trainer.predict(self.rows())
        assert [classes.shape for classes, _, _ in predictions.predictions] == [(1, 7, 4)] * 5
        assert np.isfinite(predictions.metrics["test_loss"])

    def test_scores_are_those_without_trainer(self, tmp_path):
        model = tiny_model(SWIN)
        found = self.trainer(tmp_path, model, Scores(self.PROCESSOR)).evaluate()
        for name, score in self.scores_without_trainer(model).items():
            assert found[f"eval_{name}"] == pytest.approx(score), name
        assert found["eval_miou"] > 0

    def test_goes_on_where_it_stopped_and_its_checkpoints_open(self, tmp_path):
        torch.manual_seed(0)
        whole = self.trainer(tmp_path / "whole", max_steps=4, lr_scheduler_type="constant")
        start = {key: value.clone() for key, value in whole.model.state_dict().items()}
        whole.train()
        first = self.trainer(tmp_path / "parts", max_steps=2, lr_scheduler_type="constant", save_steps=2)
        first.model.load_state_dict(start)
        first.train()
        second = self.trainer(tmp_path / "parts", max_steps=4, lr_scheduler_type="constant")
        second.train(resume_from_checkpoint=True)
        for key, value in whole.model.state_dict().items():
            assert torch.equal(second.model.state_dict()[key], value), key
        opened = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "parts" / "checkpoint-4")
        assert torch.equal(opened.pixel_decoder.level_embed, second.model.pixel_decoder.level_embed)
        processor = UniSegmentImageProcessor.from_pretrained(tmp_path / "parts" / "checkpoint-4")
        assert processor.settings() == self.PROCESSOR.settings() | {"id2label": opened.config.id2label}

    def test_needs_no_arguments_for_our_own_samples(self, tmp_path):
        write_synthetic(tmp_path / "scenes", num_train=3, num_val=2, progress=False)
        train, val = (open_data_set(tmp_path / "scenes", "coco_panoptic", split) for split in ("train", "val"))
        arguments = TrainingArguments(
            str(tmp_path / "run"), max_steps=2, per_device_train_batch_size=2, use_cpu=True, dataloader_pin_memory=False
        )
        trainer = Trainer(
            tiny_model(id2label=train.id2label),
            arguments,
            data_collator=Collate(mean=[0.5] * 3, std=[0.2] * 3),
            train_dataset=train,
            eval_dataset=val,
        )
        trainer.train()
        assert trainer.evaluate()["eval_loss"] > 0


def test_there_is_no_table_of_words():
    model = tiny_model()
    assert model.get_input_embeddings() is None  # what torchao asks, and would otherwise stop at
    assert model.get_output_embeddings() is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("share", [0.0, 0.9])
def test_device_map_leaves_parts_on_disk(saved, tmp_path, share):
    checkpoint, pixel_values, _ = saved
    size = sum(4 * weight.numel() for weight in tiny_model(SWIN).parameters())
    model = UniSegmentForUniversalSegmentation.from_pretrained(
        checkpoint, device_map="auto", max_memory={"cpu": int(share * size)}, offload_folder=tmp_path / "offloaded"
    )
    assert {weight.device.type for weight in model.parameters()} == ({"meta", "cpu"} if share else {"meta"})
    with torch.no_grad(), plain_products():  # layers whose weights come and go are not fused
        expected = UniSegmentForUniversalSegmentation.from_pretrained(checkpoint)(pixel_values)
        assert largest_difference(model(pixel_values), expected) == 0


def test_device_map_of_one_device(saved):
    checkpoint, pixel_values, expected = saved
    model = UniSegmentForUniversalSegmentation.from_pretrained(checkpoint, device_map="cpu")
    with torch.no_grad():
        assert largest_difference(model(pixel_values), expected) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16"])
def test_dtype_holds_for_all_weights_and_is_kept(saved, tmp_path, dtype):
    checkpoint, pixel_values, expected = saved
    model = UniSegmentForUniversalSegmentation.from_pretrained(checkpoint, dtype=dtype)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        outputs = model(pixel_values)
    scale = max(expected.class_queries_logits.abs().max(), expected.masks_queries_logits.abs().max())
    assert 0 < largest_difference(outputs, expected) < 0.1 * scale
    model.save_pretrained(tmp_path / "half")
    for auto in ({}, {"dtype": "auto"}):
        assert UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "half", **auto).dtype == torch.bfloat16


def attention_of(model):
    """Return how the model, its config for the backbone and the backbone itself say that they compute attention."""
    return (
        model.config._attn_implementation,
        model.config.backbone_config._attn_implementation,
        model.backbone.body.config._attn_implementation,
    )


@pytest.mark.parametrize(
    ("choice", "own", "backbone"),
    [
        (None, "sdpa", "sdpa"),
        ("sdpa", "sdpa", "sdpa"),
        ("eager", "eager", "eager"),
        ({"": "sdpa", "backbone_config": "eager"}, "sdpa", "eager"),
    ],
)
def test_attention_is_chosen_on_loading_and_later(saved, monkeypatch, choice, own, backbone):
    checkpoint, pixel_values, expected = saved
    loaded = UniSegmentForUniversalSegmentation.from_pretrained(checkpoint, attn_implementation=choice)
    changed = UniSegmentForUniversalSegmentation.from_pretrained(checkpoint, attn_implementation="eager")
    changed.set_attn_implementation("sdpa" if choice is None else choice)
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: calls.append(1) or fused(*args, **kwargs),
    )
    for model in (loaded, changed):
        assert attention_of(model) == (own, backbone, backbone)
        calls.clear()
        with torch.no_grad():
            assert largest_difference(model.eval()(pixel_values), expected) < 1e-5
        # Two for each of three decoder layers, and some for each of five Swin blocks.
        of_backbone = len(calls) - 6 * (own == "sdpa")
        assert of_backbone >= 5 if backbone == "sdpa" else of_backbone == 0


@pytest.mark.parametrize("choice", ["flash_attention_2", "flex_attention"])
def test_attention_that_is_not_there_is_refused(saved, choice):
    with pytest.raises(ValueError, match="UniSegmentForUniversalSegmentation does not support"):
        UniSegmentForUniversalSegmentation.from_pretrained(saved[0], attn_implementation=choice)
    model = UniSegmentForUniversalSegmentation.from_pretrained(saved[0])
    with pytest.raises(ValueError, match="UniSegmentForUniversalSegmentation does not support"):
        model.set_attn_implementation(choice)
    assert attention_of(model) == ("sdpa", "sdpa", "sdpa")


def test_attention_passes_over_a_backbone_without_any(tmp_path):
    tiny_model(RESNET).save_pretrained(tmp_path)
    for choice in ("eager", "sdpa"):
        model = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, attn_implementation=choice)
        assert attention_of(model) == (choice, "eager", "eager")
    model.set_attn_implementation("eager")
    model.set_attn_implementation("sdpa")
    assert attention_of(model) == ("sdpa", "eager", "eager")
