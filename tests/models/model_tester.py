# SPDX-License-Identifier: Apache-2.0
"""The contract of every family of models: `TinyFamily` in, everything that must hold for it tested."""

import math

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForUniversalSegmentation,
    pipeline,
)
from transformers.modeling_layers import GradientCheckpointingLayer

from tests.models.tiny_families import NUM_LABELS, STUFF
from unisegment import SegmentationTarget, Segmenter
from unisegment.losses.base import NonFiniteLoss
from unisegment.models.base import SegmentationModel, SegmentationProcessor
from unisegment.models.checkpoints import open_checkpoint
from unisegment.training.sharding import layer_names


def random_targets(sizes: list[int], height: int, width: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return overlapping random blobs: masks (n h w) and labels (n) for each image."""
    coarse = [torch.rand(n, 1, height // 8, width // 8) for n in sizes]
    masks = [torch.nn.functional.interpolate(x, (height, width), mode="bilinear")[:, 0] > 0.55 for x in coarse]
    return masks, [torch.randint(NUM_LABELS, (n,)) for n in sizes]


def same_points(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype = torch.float32) -> None:
    """Make `torch.rand` give the same points to both codes: they depend on nothing but how many are asked for."""
    real = torch.rand

    def fake(*shape, device=None, **_):
        shape = shape[0] if isinstance(shape[0], (tuple, list, torch.Size)) else shape
        if not shape:  # not points: older releases of transformers draw a number for each layer
            return real(())
        generator = torch.Generator().manual_seed(shape[-2])
        return real(shape[-2:], generator=generator).to(dtype).expand(*shape).clone()

    monkeypatch.setattr(torch, "rand", fake)


def assert_close_in_scale(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


def switch_recomputing(model, on=True):
    """Call transformers' method by its name since 5.23, which warns of the older one, or by that."""
    for name in ("activation_checkpointing", "gradient_checkpointing"):
        method = getattr(model, f"{name}_{'enable' if on else 'disable'}", None)
        if method is not None:
            method()
            return


def scene(*counts, height=64, width=96):
    """Return what `forward` takes: images of one size, with so many segments each."""
    masks, labels = random_targets([*counts], height, width)
    return {"pixel_values": torch.randn(len(counts), 3, height, width), "mask_labels": masks, "class_labels": labels}


def logits(model, pixel_values, **others):
    with torch.no_grad():
        output = model.eval()(pixel_values, **others)
    return output.class_queries_logits, output.masks_queries_logits


def assert_same_logits(found, expected, tolerance=1e-5):
    for one, other in zip(found, expected, strict=True):
        assert_close_in_scale(one, other, tolerance)


def members(protocol):
    return {*protocol.__annotations__, *(name for name in vars(protocol) if not name.startswith("_"))}


class ModelTester:
    """What must hold for the family of `tiny`, a fixture of the test class."""

    # What its users ask it for

    def test_model_and_processor_are_what_the_protocols_say(self, tiny):
        model, processor = tiny.model(), tiny.processor()
        assert {name for name in members(SegmentationModel) if not hasattr(model, name)} == set()
        assert {name for name in members(SegmentationProcessor) if not hasattr(processor, name)} == set()
        names = {name for name, _ in model.named_parameters()}
        assert any(name.startswith("backbone.") for name in names)
        assert model.get_submodule(model.class_head).weight.shape[0] == NUM_LABELS + 1
        assert {len(model.get_parameter(name)) for name in model.query_tables} == {model.config.num_queries}
        adapted = model.lora_targets()
        assert all(isinstance(model.get_submodule(name), nn.Linear) for name in adapted)
        assert any(name.startswith("backbone.") for name in adapted)
        assert model.class_head not in adapted
        above = {name: model.layers_above(name) for name in names}
        assert {*above.values()} == {*range(max(above.values()) + 1)}  # every layer has weights
        assert max(above.values()) > 0
        assert above[f"{model.class_head}.weight"] == 0
        assert str(model.config.num_queries) in " ".join(tiny.family.describe(model.config))

    def test_shapes_at_any_size(self, tiny):
        model, stride = tiny.model(), tiny.processor().mask_stride
        for height, width in [(64, 96), (61, 90), (32, 64)]:
            classes, masks = logits(model, torch.randn(2, 3, height, width))
            assert classes.shape == (2, model.config.num_queries, NUM_LABELS + 1)
            assert masks.shape == (2, model.config.num_queries, math.ceil(height / stride), math.ceil(width / stride))

    def test_a_batch_equals_each_image_padded_alone(self, tiny):
        model = tiny.model().eval()
        sizes = [(61, 90), (37, 53)]
        pixel_values, pixel_mask = torch.zeros(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.int64)
        for i, (height, width) in enumerate(sizes):
            pixel_values[i, :, :height, :width] = torch.randn(3, height, width)
            pixel_mask[i, :height, :width] = 1
        with torch.no_grad():
            together = model(pixel_values, pixel_mask=pixel_mask)
        assert together.image_sizes.tolist() == [list(size) for size in sizes]
        assert together.image_sizes.dtype == torch.int64
        for i in range(2):
            alone = logits(model, pixel_values[i : i + 1], pixel_mask=pixel_mask[i : i + 1])
            assert_same_logits(
                (together.class_queries_logits[i], together.masks_queries_logits[i]), [x[0] for x in alone]
            )

    def test_tuple_output(self, tiny):
        model = tiny.model().eval()
        with torch.no_grad():
            named, output = (model(torch.randn(1, 3, 32, 64), return_dict=choice) for choice in (True, False))
        assert [item.shape for item in output[:2]] == [
            named.class_queries_logits.shape,
            named.masks_queries_logits.shape,
        ]
        assert output[-1].tolist() == [[32, 64]]

    # Files

    def test_save_and_load_keep_every_bit(self, tiny, tmp_path):
        model = tiny.model().eval()
        model.save_pretrained(tmp_path, max_shard_size="100KB")
        assert len(list(tmp_path.glob("*.safetensors"))) > 1
        loaded, _ = open_checkpoint(tmp_path)
        assert type(loaded) is type(model)
        assert loaded.config.categories == model.config.categories
        assert loaded.config.to_dict().keys() == model.config.to_dict().keys()
        for name, value in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value), name

    def test_plain_transformers_opens_what_we_write_and_we_read_it_back(self, tiny, tmp_path):
        model, processor = tiny.model(), tiny.processor()
        model.save_pretrained(tmp_path, format="transformers")
        processor.save_pretrained(tmp_path, format="transformers")
        theirs, report = AutoModelForUniversalSegmentation.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert type(theirs).__module__.startswith("transformers.")
        assert theirs.config.id2label == model.config.id2label
        pixel_values = torch.randn(2, 3, *tiny.stock_size)
        assert_same_logits(logits(model, pixel_values), logits(theirs, pixel_values), 1e-4)
        again, processor_again = open_checkpoint(tmp_path)
        assert type(again) is type(model)
        assert {
            name for name, value in model.state_dict().items() if not torch.equal(again.state_dict()[name], value)
        } == set()
        assert processor_again.stuff_label_ids == STUFF
        assert processor_again.size == processor.size

    def test_a_processor_is_kept(self, tiny, tmp_path):
        processor = tiny.processor(size_divisor=64, image_mean=[0.1, 0.2, 0.3])
        processor.save_pretrained(tmp_path)
        tiny.config().save_pretrained(tmp_path)
        again = tiny.family.processor().from_pretrained(tmp_path)
        assert again.settings() == processor.settings()
        assert (again.stuff_label_ids, again.size_divisor, again.image_mean) == (STUFF, 64, [0.1, 0.2, 0.3])

    def test_other_classes_keep_what_has_the_same_name(self, tiny, tmp_path):
        tiny.save(tmp_path)
        names = {0: "road", 1: "cow"}
        (model, report), _ = open_checkpoint(
            tmp_path, {"stuff_label_ids": [0]}, id2label=names, ignore_mismatched_sizes=True, output_loading_info=True
        )
        before, after = (one.get_submodule(one.class_head).weight for one in (tiny.model(), model))
        assert torch.equal(after[[0, 2]], before[[4, 5]])  # and "no object"
        assert report["changes"]["classes"].made == ["cow"]
        assert_same_logits(
            logits(model, torch.ones(1, 3, 64, 96))[1:], logits(tiny.model(), torch.ones(1, 3, 64, 96))[1:]
        )

    # The loss

    def test_every_parameter_gets_a_gradient_of_the_sum_of_all_terms(self, tiny):
        model = tiny.model().train()
        output = model(**scene(3, 2))
        torch.testing.assert_close(output.loss, torch.stack(list(output.loss_dict.values())).sum())
        assert {"loss_cross_entropy", "loss_mask", "loss_dice"} < output.loss_dict.keys()
        output.loss.backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []

    @pytest.mark.parametrize("counts", [(0, 0), (500, 3)], ids=["no targets", "more targets than queries"])
    def test_any_number_of_targets(self, tiny, counts):
        model = tiny.model().train()
        loss = model(**scene(*counts)).loss
        loss.backward()
        assert all(torch.isfinite(value).all() for value in (loss, *gradients(model).values()))

    def test_one_class(self, tiny):
        model, batch = tiny.model(num_labels=1).train(), scene(2, 1)
        batch["class_labels"] = [torch.zeros_like(labels) for labels in batch["class_labels"]]
        model(**batch).loss.backward()
        assert logits(model, batch["pixel_values"])[0].shape[2] == 2

    def test_all_forms_of_targets_give_the_same_loss(self, tiny, monkeypatch):
        same_points(monkeypatch)
        model = tiny.model().eval()
        pixel_values = torch.randn(1, 3, 64, 96)
        id_map = torch.zeros(64, 96, dtype=torch.int64)
        id_map[5:40, 10:31], id_map[41:, 50:] = 70_001, 9
        labels = torch.tensor([2, 4])
        masks = torch.stack([id_map == 70_001, id_map == 9])
        forms = [masks, masks.to(torch.uint8), masks.float()]
        losses = [model(pixel_values, mask_labels=[form], class_labels=[labels]).loss for form in forms]
        target = SegmentationTarget(labels=labels, id_map=id_map, segment_ids=torch.tensor([70_001, 9]))
        losses.append(model(pixel_values, mask_labels=[target]).loss)
        crowd = SegmentationTarget(
            labels=torch.tensor([2, 4, 1]),
            masks=torch.cat([masks, ~masks[:1]]),
            is_crowd=torch.tensor([False, False, True]),
        )
        losses.append(model(pixel_values, mask_labels=[crowd]).loss)
        torch.testing.assert_close(torch.stack(losses), losses[0].expand(5), rtol=1e-6, atol=0)

    def test_micro_batches_add_up_to_the_whole_batch(self, tiny, monkeypatch):
        same_points(monkeypatch)
        model, batch = tiny.model().eval(), scene(3, 1)
        whole = model(**batch)
        denominators = model.loss_denominators([batch["class_labels"][:1], batch["class_labels"][1:]], lambda x: x, 1)
        parts = [
            model(**{name: values[i : i + 1] for name, values in batch.items()}, loss_denominators=denominators[i])
            for i in range(2)
        ]
        for name, term in whole.loss_dict.items():
            torch.testing.assert_close(sum(part.loss_dict[name] for part in parts), term, rtol=1e-4, atol=1e-6)

    # How it is trained and run

    def test_layers_that_are_computed_again_give_the_same_bits(self, tiny):
        def step(model):
            torch.manual_seed(7)
            output = model.train()(**batch)
            output.loss.backward()
            return {
                **output.loss_dict,
                **gradients(model),
                **dict(model.named_buffers()),
                "state": torch.get_rng_state(),
            }

        batch, again = scene(3, 2), tiny.model()
        switch_recomputing(again)
        expected, found = step(tiny.model()), step(again)
        assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []

    def test_layers_are_cut_up_and_kept_whole_by_their_names(self, tiny):
        model = tiny.model()
        kinds = {type(part).__name__ for part in model.modules()}
        assert layer_names(model)
        assert set(model._no_split_modules) <= kinds
        layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
        held = {id(weight) for layer in layers for weight in layer.parameters()}
        sizes = {id(weight): weight.numel() for weight in model.parameters()}
        assert sum(sizes[key] for key in held) > sum(sizes.values()) / 2

    # Of weights that lie beside layers, not in one; each has its place all the same.
    @pytest.mark.filterwarnings("ignore:The following device_map keys do not match any submodules")
    def test_device_map_leaves_parts_on_disk(self, tiny, tmp_path):
        checkpoint, pixel_values = tiny.save(tmp_path / "checkpoint"), torch.randn(2, 3, 64, 96)
        size = sum(4 * weight.numel() for weight in tiny.model().parameters())
        model = tiny.family.model().from_pretrained(
            checkpoint, device_map="auto", max_memory={"cpu": int(0.6 * size)}, offload_folder=tmp_path / "offloaded"
        )
        assert {weight.device.type for weight in model.parameters()} == {"meta", "cpu"}
        assert_same_logits(logits(model, pixel_values), logits(tiny.model(), pixel_values), 0)

    @pytest.mark.parametrize("mode", ["bfloat16 weights", "autocast"])
    def test_half_precision_trains_and_is_near_single(self, tiny, mode):
        model, batch = tiny.model(), scene(3, 2)
        single = logits(model, batch["pixel_values"])
        if mode == "bfloat16 weights":
            model = model.to(torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"):
            half = logits(model, batch["pixel_values"])
            loss = model.train()(**batch).loss
        assert_same_logits([x.float() for x in half], single, 0.1)
        assert loss.dtype == torch.float32
        loss.backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())

    # Who opens it

    def test_auto_classes_give_ours(self, tiny, tmp_path):
        checkpoint = tiny.save(tmp_path)
        family = tiny.family
        assert type(AutoConfig.from_pretrained(checkpoint)) is family.config
        for auto in (AutoModel, AutoModelForUniversalSegmentation):
            assert type(auto.from_pretrained(checkpoint)) is family.model()
        assert type(AutoImageProcessor.from_pretrained(checkpoint)) is family.processor()

    def test_pipeline_and_segmenter_find_what_post_processing_finds(self, tiny, tmp_path):
        checkpoint, noise = tiny.save(tmp_path), torch.Generator().manual_seed(5)
        image = torch.randint(256, (53, 71, 3), generator=noise, dtype=torch.uint8).numpy()
        segmenter = Segmenter.from_pretrained(checkpoint, panoptic_threshold=0.0)
        pipe = pipeline("image-segmentation", model=checkpoint, device="cpu")
        with torch.no_grad():
            outputs = pipe.model(**pipe.image_processor(image, return_tensors="pt"))
        post = {
            task: getattr(pipe.image_processor, f"post_process_{task}_segmentation")
            for task in ("semantic", "panoptic")
        }
        (panoptic,) = post["panoptic"](outputs, threshold=0.0, target_sizes=[(53, 71)])
        (semantic,) = post["semantic"](outputs, target_sizes=[(53, 71)])
        result = segmenter(image)
        assert torch.equal(result.panoptic.segmentation, panoptic.segmentation)
        assert torch.equal(result.semantic, semantic)
        assert result.instance.masks.shape[1:] == (53, 71)
        found = pipe(Image.fromarray(image), subtask="panoptic", threshold=0.0)
        assert [segment["label"] for segment in found] == [info["label"] for info in panoptic.segments_info]
        assert len(found) > 0
        assert all(segment["mask"].size == (71, 53) for segment in found)

    # Bad input

    def test_a_diverged_network_is_named(self, tiny):
        model = tiny.model()
        nn.init.constant_(model.get_submodule(model.class_head).bias, float("nan"))
        with pytest.raises(NonFiniteLoss, match=r"image 0 .* Not finite: class logits.* learning rate") as caught:
            model(**scene(2, 3))
        (sum(tensor.sum() for tensor in caught.value.touching) * math.nan).backward()
        learning = [name for name, value in model.named_parameters() if value.grad is None]
        assert learning == []

    @pytest.mark.parametrize(
        ("masks", "labels", "message"),
        [
            ([torch.zeros(1, 32, 60)], [torch.tensor([0])], r"mask_labels\[0\] has size \(32, 60\).*\(32, 64\)"),
            ([torch.zeros(1, 32, 64)], [torch.tensor([NUM_LABELS])], r"class_labels\[0\] has 5.* 0 to 4"),
            ([torch.zeros(1, 32, 64)], [torch.tensor([-1])], r"class_labels\[0\] has -1"),
            ([torch.zeros(2, 32, 64)], [torch.tensor([1])], r"n = 1"),
            ([torch.zeros(1, 32, 64)], None, "class_labels is needed"),
            (None, [torch.tensor([0])], "mask_labels is needed"),
            ([], [], "each of the 1 images, got 0"),
        ],
    )
    def test_targets_that_do_not_fit_are_named(self, tiny, masks, labels, message):
        with pytest.raises(ValueError, match=message):
            tiny.model()(torch.randn(1, 3, 32, 64), mask_labels=masks, class_labels=labels)

    @pytest.mark.parametrize("shape", [(1, 3, 0, 64), (3, 32, 64)])
    def test_images_that_are_none_are_named(self, tiny, shape):
        with pytest.raises(ValueError, match=r"pixel_values must be \(batch, 3, height, width\)"):
            tiny.model()(torch.randn(*shape))

    def test_a_pixel_mask_of_another_size_is_named(self, tiny):
        with pytest.raises(ValueError, match=r"pixel_mask must be .*\(1, 32, 60\)"):
            tiny.model()(torch.randn(1, 3, 32, 64), pixel_mask=torch.ones(1, 32, 60))

    def test_an_unknown_key_is_named(self, tiny):
        with pytest.raises(ValueError, match=r"'num_querys' is not a key .* 'num_queries'"):
            tiny.config(num_querys=3)
