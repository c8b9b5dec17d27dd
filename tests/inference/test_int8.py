# SPDX-License-Identifier: Apache-2.0
"""Linear layers whose weights a library has put in other tensors' place, as torchao does for 8 bits."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.inference.reads_colours import SAMPLES
from tests.models.tiny_families import tiny_family
from unisegment.inference.export_run import weights_digest
from unisegment.inference.predictor import open_predictor
from unisegment.models.base import FOLDERS
from unisegment.segmenter import Segmenter


class Rounded(Tensor):
    """A weight that knows the product and nothing else, as those of torchao know few functions."""

    @staticmethod
    def __new__(cls, values):
        return Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype, device=values.device)

    def __init__(self, values):
        self.values = values

    def dequantize(self):
        return self.values

    @classmethod
    def __torch_function__(cls, function, types, given=(), keywords=None):
        if function is F.linear:
            return F.linear(given[0], given[1].values, *given[2:])
        return super().__torch_function__(function, types, given, keywords or {})

    @classmethod
    def __torch_dispatch__(cls, operator, types, given=(), keywords=None):
        if operator is torch.ops.aten.detach.default:
            return cls(given[0].values)
        raise NotImplementedError(str(operator))


def quantise(model):
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight = nn.Parameter(Rounded(module.weight.detach()), requires_grad=False)


@pytest.fixture(scope="module", params=FOLDERS)
def checkpoint(request, tmp_path_factory):
    return tiny_family(request.param).save(tmp_path_factory.mktemp(request.param))


def outputs(predictor):
    ((_, found),) = predictor.stream([SAMPLES[0]])
    return found


def test_a_model_runs_on_weights_of_another_kind(checkpoint, tmp_path):
    plain, segmenter = open_predictor(checkpoint), Segmenter.from_pretrained(checkpoint)
    expected, digest = outputs(plain), weights_digest(plain.model)
    quantise(segmenter.model)
    found = outputs(segmenter.predictor)
    for name in ("class_queries_logits", "masks_queries_logits"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)
    assert weights_digest(segmenter.model) == digest
    assert segmenter.predict([SAMPLES[0].image], tmp_path)["new"] == 1


@pytest.mark.parametrize("format", ["unisegment", "transformers"])
def test_quantised_weights_are_not_saved(checkpoint, tmp_path, format):
    model = Segmenter.from_pretrained(checkpoint).model
    plain = model.state_dict()
    quantise(model)
    with pytest.raises(ValueError, match=r"weight is quantised \(a Rounded\).* Save the model before"):
        model.save_pretrained(tmp_path / "new", format=format)
    assert not (tmp_path / "new").exists()
    model.save_pretrained(tmp_path / "new", state_dict=plain)
    assert Segmenter.from_pretrained(tmp_path / "new").model.state_dict().keys() == plain.keys()


def test_torchao_makes_weights_of_8_bits(checkpoint, tmp_path):
    quantization = pytest.importorskip("torchao.quantization", exc_type=ImportError)
    plain, segmenter = open_predictor(checkpoint), Segmenter.from_pretrained(checkpoint)
    quantization.quantize_(segmenter.model, quantization.Int8WeightOnlyConfig())
    expected, found = outputs(plain), outputs(segmenter.predictor)
    for name in ("class_queries_logits", "masks_queries_logits"):
        assert not torch.equal(found[name], expected[name])
        error = (found[name] - expected[name]).norm() / expected[name].norm()
        assert error < 0.1
    assert weights_digest(segmenter.model) != weights_digest(plain.model)
    with pytest.raises(ValueError, match="weight is quantised"):
        segmenter.model.save_pretrained(tmp_path / "new")
    assert segmenter.predict([SAMPLES[0].image], tmp_path)["new"] == 1
