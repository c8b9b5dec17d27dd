# SPDX-License-Identifier: Apache-2.0
"""The contract of every architecture: a test class inherits it and names a tiny config and its stock twin."""

import inspect

import pytest
import torch
from torch import Tensor
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, PreTrainedConfig

from unisegment import SegmentationTarget, UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.losses.base import NonFiniteLoss
from unisegment.models.unisegment.checkpoint_conversion import from_stock, to_stock
from unisegment.models.unisegment.stock_checkpoints import config_from_stock

NUM_LABELS = 5
NUM_QUERIES = 11


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


class ModelTester:
    """Everything that must hold for a model with the backbone that `backbone_config` gives."""

    def backbone_config(self) -> PreTrainedConfig:
        raise AssertionError("a test class names its backbone")

    def stock_config(self, **overrides) -> Mask2FormerConfig:
        keys = {
            "feature_size": 64, "mask_feature_size": 48, "hidden_dim": 64, "encoder_layers": 2, "decoder_layers": 5,
            "num_attention_heads": 4, "num_queries": NUM_QUERIES, "dim_feedforward": 80, "encoder_feedforward_dim": 72,
            "num_labels": NUM_LABELS, "train_num_points": 113, **overrides,
        }  # fmt: skip
        return Mask2FormerConfig(backbone_config=self.backbone_config(), **keys)

    def config(self, **overrides) -> UniSegmentConfig:
        return UniSegmentConfig.from_dict({**config_from_stock(self.stock_config().to_dict()), **overrides})

    def model(self, **overrides) -> UniSegmentForUniversalSegmentation:
        return UniSegmentForUniversalSegmentation(self.config(**overrides))

    def twins(self, **overrides):
        """Return the stock model and ours with the same weights, none of which is at a special value."""
        stock = Mask2FormerForUniversalSegmentation(self.stock_config(**overrides))
        with torch.no_grad():
            for parameter in stock.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        ours = UniSegmentForUniversalSegmentation(UniSegmentConfig.from_dict(config_from_stock(stock.config.to_dict())))
        kept = isinstance(stock.model.transformer_module.input_projections, torch.nn.ModuleList)
        if not kept and any(True for _ in ours.transformer_decoder.input_proj.parameters()):
            pytest.skip("this release of transformers keeps the input projections outside the model")
        report = ours.load_state_dict(from_stock(stock.state_dict()), strict=False)
        assert report.missing_keys == []
        assert report.unexpected_keys == []
        return stock, ours

    # Against transformers

    @pytest.mark.parametrize("size", [(96, 160), (128, 64)])
    def test_logits_equal_those_of_transformers(self, size):
        stock, ours = self.twins()
        pixel_values = torch.randn(2, 3, *size)
        with torch.no_grad():
            theirs = stock.eval()(pixel_values, output_auxiliary_logits=True)
            mine = ours.eval()(pixel_values, output_auxiliary_logits=True)
        assert mine.masks_queries_logits.shape == (2, NUM_QUERIES, size[0] // 4, size[1] // 4)
        assert len(mine.auxiliary_logits) == len(theirs.auxiliary_logits) == 4
        for one, other in zip([mine, *mine.auxiliary_logits], [theirs, *theirs.auxiliary_logits], strict=True):
            for key in ("class_queries_logits", "masks_queries_logits"):
                assert_close_in_scale(one[key], other[key])

    @pytest.mark.parametrize(
        "overrides", [{"pre_norm": True}, {"enforce_input_projection": True}, {"hidden_dim": 32}, {"decoder_layers": 1}]
    )
    def test_logits_equal_those_of_transformers_for_other_configs(self, overrides):
        stock, ours = self.twins(**overrides)
        pixel_values = torch.randn(2, 3, 64, 96)
        with torch.no_grad():
            theirs, mine = stock.eval()(pixel_values), ours.eval()(pixel_values)
        assert_close_in_scale(mine.class_queries_logits, theirs.class_queries_logits)
        assert_close_in_scale(mine.masks_queries_logits, theirs.masks_queries_logits)

    @pytest.mark.parametrize("switch", ["call", "config", "off"])
    def test_hidden_states_and_attentions_equal_those_of_transformers(self, switch):
        models = self.twins()
        keys = ("output_hidden_states", "output_attentions")
        if switch == "config":
            for model in models:
                model.config._attn_implementation = "eager"  # else their config refuses
                for key in keys:
                    setattr(model.config, key, True)
        given = dict.fromkeys(keys, True) if switch == "call" else {}
        pixel_values = torch.randn(2, 3, 64, 96)
        with torch.no_grad():
            theirs, mine = (model.eval()(pixel_values, **given) for model in models)
        assert list(mine)[:-1] == list(theirs)
        assert ("attentions" in mine) == ("encoder_hidden_states" in mine) == (switch != "off")
        for name, expected in theirs.items():
            found, wanted = ([x] if torch.is_tensor(x) else x for x in (mine[name], expected))
            for one, other in zip(found, wanted, strict=True):
                assert one.shape == other.shape, name
                assert_close_in_scale(one, other)

    def test_gradients_reach_the_states_as_in_transformers(self):
        names = (
            "encoder_hidden_states",
            "pixel_decoder_hidden_states",
            "transformer_decoder_hidden_states",
            "attentions",
        )
        pixel_values, found = torch.randn(1, 3, 64, 96), []
        for model in self.twins():
            outputs = model.eval()(pixel_values, output_hidden_states=True, output_attentions=True)
            states = [outputs[name][1] for name in names]
            for state in states:
                state.retain_grad()
            outputs.class_queries_logits.square().sum().backward()
            found.append([state.grad for state in states])
        for theirs, mine in zip(*found, strict=True):
            assert_close_in_scale(mine, theirs, 1e-3)

    def test_arguments_and_tuples_are_those_of_transformers(self):
        stock, ours = (model.eval() for model in self.twins())
        masks, labels = random_targets([3, 2], 64, 96)
        pixel_values, pixel_mask = torch.randn(2, 3, 64, 96), torch.ones(2, 64, 96, dtype=torch.int64)
        pixel_mask[1, :, 90:] = 0
        assert (
            list(inspect.signature(ours.forward).parameters)[:8]
            == list(inspect.signature(stock.forward).parameters)[:8]
        )
        # Targets, mask, hidden states, inner predictions, attentions, as a tuple or not.
        arguments = (pixel_values, masks, labels, pixel_mask, True, True, True)
        with torch.no_grad():
            named = ours(*arguments, question="of a batch that holds more")
            assert list(named)[:-2] == list(stock(pixel_values, [m.float() for m in masks], *arguments[2:]))
            assert named.image_sizes.tolist() == [[64, 96], [64, 90]]
            assert named[0] is named.loss
            assert torch.equal(named.loss, torch.stack(list(named.loss_dict.values())).sum())
            as_tuple = ours(*arguments, False)
            ours.config.return_dict = False
            by_config = ours(*arguments)
        for found in (named.to_tuple(), as_tuple, by_config):
            assert isinstance(found, tuple)
            assert [type(item) for item in found] == [type(item) for item in named.values()]
            assert found[0].shape == ()
            assert found[1].shape == (2, NUM_QUERIES, NUM_LABELS + 1)

    # Single precision is tested on one case only: a point of almost equal uncertainty, or a value next to a ReLU's
    # kink, can fall to either side in the last bit, and moves a gradient by more than rounding. In double precision
    # that does not happen.
    @pytest.mark.parametrize(
        ("size", "counts", "dtype"),
        [
            ((96, 160), [4, 3], torch.float32),
            ((96, 160), [4, 3], torch.float64),
            ((128, 64), [0, 17], torch.float64),
            ((64, 96), [0, 0], torch.float64),
        ],
    )
    def test_losses_and_gradients_equal_those_of_transformers(self, monkeypatch, size, counts, dtype):
        stock, ours = (model.to(dtype) for model in self.twins())
        pixel_values = torch.randn(2, 3, *size, dtype=dtype)
        masks, labels = random_targets(counts, *size)
        same_points(monkeypatch, dtype)
        theirs = stock(pixel_values, mask_labels=[m.to(dtype) for m in masks], class_labels=labels)
        their_terms = self._stock_loss_terms(stock, pixel_values, masks, labels)
        mine = ours(pixel_values, mask_labels=masks, class_labels=labels)
        assert mine.loss_dict.keys() == their_terms.keys()
        for name, term in their_terms.items():
            torch.testing.assert_close(mine.loss_dict[name], term.to(dtype), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(mine.loss, theirs.loss.to(dtype), rtol=1e-5, atol=0)
        theirs.loss.backward()
        mine.loss.backward()
        my_gradients, their_gradients = to_stock(gradients(ours)), gradients(stock)
        whole = torch.cat([gradient.flatten() for gradient in their_gradients.values()]).norm()
        for name, gradient in my_gradients.items():
            difference = (gradient - their_gradients[name]).norm()
            assert difference <= 1e-4 * max(their_gradients[name].norm(), 1e-4 * whole), name

    @staticmethod
    def _stock_loss_terms(stock, pixel_values, masks, labels):
        with torch.no_grad():
            output = stock(pixel_values, output_auxiliary_logits=True)
            return stock.get_loss_dict(
                masks_queries_logits=output.masks_queries_logits,
                class_queries_logits=output.class_queries_logits,
                mask_labels=[m.to(pixel_values.dtype) for m in masks],
                class_labels=labels,
                auxiliary_predictions=output.auxiliary_logits,
            )

    # On its own

    def test_every_parameter_gets_a_gradient(self):
        model = self.model()
        masks, labels = random_targets([3, 2], 64, 96)
        model(torch.randn(2, 3, 64, 96), mask_labels=masks, class_labels=labels).loss.backward()
        without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
        assert without == []

    @pytest.mark.parametrize("levels", [1, 2, 4])
    @pytest.mark.parametrize("points", [1, 3])
    def test_any_number_of_levels_points_layers_and_queries(self, levels, points):
        keys = {"encoder_layers": 1, "decoder_layers": 2 + levels, "num_queries": 1}
        model = self.model(num_feature_levels=levels, encoder_n_points=points, **keys)
        masks, labels = random_targets([3, 0], 64, 96)
        output = model(torch.randn(2, 3, 64, 96), mask_labels=masks, class_labels=labels, output_auxiliary_logits=True)
        output.loss.backward()
        assert output.masks_queries_logits.shape == (2, 1, 16, 24)
        assert len(output.auxiliary_logits) == 1 + levels
        assert len(output.loss_dict) == 3 * (2 + levels)

    def test_all_forms_of_targets_give_the_same_loss(self, monkeypatch):
        same_points(monkeypatch)
        model = self.model().eval()
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

    @pytest.mark.parametrize("mode", ["bfloat16 weights", "autocast", "autocast, pixel decoder too"])
    def test_half_precision_trains(self, mode):
        dtype_key = "autocast" if mode.endswith("too") else "float32"
        model = self.model(pixel_decoder_dtype=dtype_key)
        if mode == "bfloat16 weights":
            model = model.to(torch.bfloat16)
        masks, labels = random_targets([3, 2], 64, 96)
        with torch.autocast("cpu", torch.bfloat16, enabled=mode != "bfloat16 weights"):
            output = model(torch.randn(2, 3, 64, 96), mask_labels=masks, class_labels=labels)
        assert output.loss.dtype == torch.float32
        output.loss.backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())

    def test_half_precision_is_near_single(self):
        model = self.model().eval()
        pixel_values = torch.randn(2, 3, 64, 96)
        with torch.no_grad():
            single = model(pixel_values)
            with torch.autocast("cpu", torch.bfloat16):
                autocast = model(pixel_values)
        assert_close_in_scale(autocast.class_queries_logits.float(), single.class_queries_logits, 0.1)

    def test_autocast_leaves_the_pixel_decoder_in_float32(self):
        seen = {}
        for key in ("float32", "autocast"):
            model = self.model(pixel_decoder_dtype=key).eval()
            hook = model.pixel_decoder.mask_proj.register_forward_hook(
                lambda module, inputs, output, key=key: seen.__setitem__(key, output.dtype)
            )
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                model(torch.randn(1, 3, 64, 96))
            hook.remove()
        assert seen == {"float32": torch.float32, "autocast": torch.bfloat16}

    def test_a_batch_equals_each_image_padded_alone(self):
        model = self.model().eval()
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
                alone = model(pixel_values[i : i + 1], pixel_mask=pixel_mask[i : i + 1])
                assert_close_in_scale(together.class_queries_logits[i], alone.class_queries_logits[0], 1e-5)
                assert_close_in_scale(together.masks_queries_logits[i], alone.masks_queries_logits[0], 1e-5)

    def test_save_and_load_keep_every_bit(self, tmp_path):
        model = self.model(id2label={0: "sky", 1: "tree"}).eval()
        model.save_pretrained(tmp_path, max_shard_size="100KB")
        assert len(list(tmp_path.glob("*.safetensors"))) > 1
        loaded = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path)
        assert loaded.config.id2label == {0: "sky", 1: "tree"}
        assert loaded.config.to_dict().keys() == model.config.to_dict().keys()
        for name, value in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value), name

    def test_initial_values_are_those_of_the_original(self):
        model = self.model(feature_size=256, hidden_dim=256, num_queries=300)
        attention = model.transformer_decoder.layers[0].cross_attn
        assert attention.q_proj.weight.abs().max() <= (6 / (256 + 768)) ** 0.5
        assert attention.q_proj.weight.std().item() == pytest.approx((2 / (256 + 768)) ** 0.5, rel=0.02)
        assert attention.out_proj.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
        assert model.transformer_decoder.query_features.weight.std().item() == pytest.approx(1, rel=0.02)
        assert model.pixel_decoder.level_embed.std().item() == pytest.approx(1, rel=0.1)
        heads = model.transformer_decoder.predictor
        assert heads.class_head.weight.std().item() == pytest.approx(1 / 256**0.5 / 3**0.5, rel=0.05)
        offsets = model.pixel_decoder.layers[0].self_attn.sampling_offsets
        assert offsets.weight.abs().max() == 0
        bias = offsets.bias.view(4, 3, 4, 2)  # 4 heads, 3 levels, 4 points
        directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        for level in range(3):
            for point in range(4):
                torch.testing.assert_close(bias[:, level, point], directions * (point + 1))

    def test_tuple_output(self):
        model = self.model().eval()
        with torch.no_grad():
            output = model(torch.randn(1, 3, 32, 64), return_dict=False)
        assert [tuple(item.shape) for item in output[:2]] == [(1, NUM_QUERIES, NUM_LABELS + 1), (1, NUM_QUERIES, 8, 16)]
        assert output[-1].tolist() == [[32, 64]]

    def test_auxiliary_losses_can_be_switched_off(self):
        model = self.model(use_auxiliary_loss=False)
        masks, labels = random_targets([3], 32, 64)
        output = model(torch.randn(1, 3, 32, 64), mask_labels=masks, class_labels=labels)
        assert set(output.loss_dict) == {"loss_cross_entropy", "loss_mask", "loss_dice"}

    # Bad input

    def test_a_diverged_network_is_named(self):
        model = self.model()
        torch.nn.init.constant_(model.transformer_decoder.predictor.class_head.bias, float("nan"))
        masks, labels = random_targets([2, 3], 32, 64)
        with pytest.raises(NonFiniteLoss, match=r"image 0 .* Not finite: class logits.* learning rate"):
            model(torch.randn(2, 3, 32, 64), mask_labels=masks, class_labels=labels)

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
    def test_targets_that_do_not_fit_are_named(self, masks, labels, message):
        with pytest.raises(ValueError, match=message):
            self.model()(torch.randn(1, 3, 32, 64), mask_labels=masks, class_labels=labels)

    @pytest.mark.parametrize("shape", [(1, 3, 0, 64), (3, 32, 64)])
    def test_images_that_are_none_are_named(self, shape):
        with pytest.raises(ValueError, match=r"pixel_values must be \(batch, 3, height, width\)"):
            self.model()(torch.randn(*shape))

    def test_a_pixel_mask_of_another_size_is_named(self):
        with pytest.raises(ValueError, match=r"pixel_mask must be .*\(1, 32, 60\)"):
            self.model()(torch.randn(1, 3, 32, 64), pixel_mask=torch.ones(1, 32, 60))
