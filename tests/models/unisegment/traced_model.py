# SPDX-License-Identifier: Apache-2.0
"""Trace the whole model and print, as JSON, what became of it; a process of its own, as no tracer follows beartype."""

import copy
import json
import sys

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from transformers import ResNetConfig, SwinConfig

from tests.models.compiled_inference import SIZES as INFERENCE_SIZES
from tests.models.compiled_inference import compiled_inference
from tests.models.model_tester import random_targets
from unisegment import SegmentationTarget, UniSegmentConfig, UniSegmentForUniversalSegmentation

RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
SWIN = {
    "image_size": 64, "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8], "window_size": 3,
    "drop_path_rate": 0.0,
}  # fmt: skip
SMALL = {
    "feature_size": 32, "mask_feature_size": 16, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 2,
    "num_attention_heads": 2, "num_queries": 7, "dim_feedforward": 32, "encoder_feedforward_dim": 32, "num_labels": 5,
    "train_num_points": 50, "num_feature_levels": 1,  # with more, torch takes longer to reason about sizes
}  # fmt: skip
SIZES = [(64, 96), (128, 160), (83, 61)]


def make_model(**keys):
    torch.manual_seed(5)
    keys = {"backbone_config": ResNetConfig(**RESNET), **SMALL, **keys}
    model = UniSegmentForUniversalSegmentation(UniSegmentConfig(**keys))
    for attention in (layer.self_attn for layer in model.pixel_decoder.layers):
        torch.nn.init.normal_(attention.sampling_offsets.weight, std=0.2)  # points everywhere, not only on pixels
    return model


def make_batch(number):
    """Return images of one of the sizes with 0, 1 or more segments each, given in either form."""
    torch.manual_seed(number)
    size = SIZES[number % len(SIZES)]
    masks, labels = random_targets([number % 3, (2 * number + 1) % 5], *size)
    if number % 2:
        masks = [SegmentationTarget(masks=mask, labels=label) for mask, label in zip(masks, labels, strict=True)]
    return {"pixel_values": torch.randn(2, 3, *size), "mask_labels": masks, "class_labels": labels}


def step(model, call, batch):
    torch.manual_seed(11)  # of the points where masks are compared
    model.zero_grad()
    loss = call(**batch).loss
    loss.backward()
    return [loss.detach(), *(parameter.grad for parameter in model.parameters())]


def compile_training():
    """Return whether steps of all sizes equal those that are not compiled, and how many graphs and breaks there are."""
    torch.compiler.reset()
    counters.clear()
    eager = make_model().train()
    model, graphs = copy.deepcopy(eager), CompileCounterWithBackend("eager")
    call = torch.compile(model, backend=graphs, dynamic=True)
    pairs = [(step(model, call, batch), step(eager, eager, batch)) for batch in map(make_batch, range(6))]
    is_equal = all(torch.equal(*pair) for found, expected in pairs for pair in zip(found, expected, strict=True))
    return is_equal, graphs.frame_count, sum(counters["graph_break"].values())


def compile_by_method():
    """Return the differences of losses in training and evaluation, and of logits, from those that are not compiled."""
    torch.compiler.reset()
    eager = make_model()
    model, batch = copy.deepcopy(eager), make_batch(0)
    model.compile(backend="eager")
    losses = [(step(one.train(is_training), one, batch)[0]) for is_training in (True, False) for one in (model, eager)]
    model.compile(backend="eager", fullgraph=True)
    with torch.no_grad():
        pair = [one.eval()(batch["pixel_values"]).masks_queries_logits for one in (model, eager)]
    return [(one - other).abs().max().item() for one, other in (losses[:2], losses[2:], pair)]


def compile_inference():
    """Return for each backbone what `compiled_inference` does; a Swin is not compiled for batches, which takes long."""
    swin = make_model(backbone_config=SwinConfig(**SWIN)).eval()
    return {"resnet": compiled_inference(make_model().eval()), "swin": compiled_inference(swin, INFERENCE_SIZES[:3])}


class Logits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = make_model().eval()

    def forward(self, pixel_values):
        output = self.model(pixel_values)
        return output.class_queries_logits, output.masks_queries_logits, output.image_sizes


def export():
    """Return how far an exported program is from the model at each size."""
    dynamic, model = torch.export.Dim.DYNAMIC, Logits()
    sizes = ({2: dynamic, 3: dynamic},)
    program = torch.export.export(model, (make_batch(0)["pixel_values"],), dynamic_shapes=sizes)
    return differences(model, program.module())


def export_onnx(folder):
    """Return the same for a file of ONNX in onnxruntime."""
    import onnxruntime

    dynamic, model, path = torch.export.Dim.DYNAMIC, Logits(), f"{folder}/model.onnx"
    sizes = ({2: dynamic, 3: dynamic},)
    torch.onnx.export(model, (make_batch(0)["pixel_values"],), path, dynamo=True, dynamic_shapes=sizes, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (item.name for item in session.get_inputs())
    return differences(model, lambda images: [torch.from_numpy(x) for x in session.run(None, {name: images.numpy()})])


@torch.no_grad()
def differences(model, call):
    """Return the largest difference at each size, as a share of the largest value."""
    found = []
    for number in range(len(SIZES)):
        pixel_values = make_batch(number)["pixel_values"]
        pairs = list(zip(call(pixel_values), model(pixel_values), strict=True))
        assert all(one.shape == other.shape for one, other in pairs)
        found.append(max(((one - other).abs().max() / other.abs().max()).item() for one, other in pairs))
    return found


WORKS = (compile_training, compile_by_method, compile_inference, export)

if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(export_onnx(*sys.argv[1:])))
    else:
        print(json.dumps({work.__name__: work() for work in WORKS}))
