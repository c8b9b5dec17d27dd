# SPDX-License-Identifier: Apache-2.0
"""Trace the whole model and print, as JSON, what became of it; a process of its own, as no tracer follows beartype."""

import copy
import json

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from tests.models.compiled_inference import compiled_inference
from tests.models.model_tester import random_targets
from unisegment.models.eomt.configuration_eomt import UniSegmentEomtConfig
from unisegment.models.eomt.modeling_eomt import UniSegmentEomtForUniversalSegmentation

SMALL = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2, "image_size": 48,
    "patch_size": 8, "num_upscale_blocks": 1, "num_blocks": 1, "num_queries": 7, "num_labels": 5,
    "train_num_points": 50,
}  # fmt: skip
SIZES = [(40, 64), (48, 48), (53, 61)]


def make_model(step=0, **keys):
    torch.manual_seed(5)
    model = UniSegmentEomtForUniversalSegmentation(UniSegmentEomtConfig(**SMALL, **keys))
    model.at_step(step, 100)
    return model


def make_images(number):
    torch.manual_seed(number)
    return torch.randn(2, 3, *SIZES[number % len(SIZES)])


def make_batch(number):
    pixel_values = make_images(number)
    masks, labels = random_targets([number % 3, (2 * number + 1) % 5], *pixel_values.shape[2:])
    return {"pixel_values": pixel_values, "mask_labels": masks, "class_labels": labels}


def step(model, call, batch):
    torch.manual_seed(11)  # of the points where masks are compared, and of the queries that are let off
    model.zero_grad()
    loss = call(**batch).loss
    loss.backward()
    return [loss.detach(), *(parameter.grad for parameter in model.parameters())]


def compile_training():
    """Return whether steps of all sizes equal those that are not compiled; graphs while masks disappear; breaks."""
    torch.compiler.reset()
    counters.clear()
    eager = make_model().train()
    step(eager, eager, make_batch(0))  # einops learns of torch, which else makes a graph anew
    model, graphs = copy.deepcopy(eager), CompileCounterWithBackend("eager")
    call, are_equal, counts = torch.compile(model, backend=graphs, dynamic=True), True, []
    for taken in (0, 12, 18, 21, 30, 99):
        for one in (model, eager):
            one.at_step(taken, 100)
        batch = make_batch(taken)
        pairs = zip(step(model, call, batch), step(eager, eager, batch), strict=True)
        are_equal &= all(torch.allclose(*pair, rtol=1e-4, atol=1e-6) for pair in pairs)
        counts.append(sum(len(graph.graph.nodes) > 1 for graph in graphs.graphs))
    return are_equal, counts, sum(counters["graph_break"].values())


def compile_inference():
    """Return what `compiled_inference` does."""
    return compiled_inference(make_model(100).eval())


class Logits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model.eval()

    def forward(self, pixel_values):
        output = self.model(pixel_values)
        return output.class_queries_logits, output.masks_queries_logits, output.image_sizes


@torch.no_grad()
def export():
    """Return how far exported programs are from the model, at all sizes."""
    found, dynamic = [], torch.export.Dim.DYNAMIC
    for step, keys in ((0, {}), (25, {"position_encoding": "rope"}), (100, {"position_encoding": "rope"})):
        model = Logits(make_model(step, **keys))
        program = torch.export.export(model, (make_images(0),), dynamic_shapes=({2: dynamic, 3: dynamic},))
        found += [difference(program.module(), model, make_images(number)) for number in range(3)]
    return found


def difference(one, other, pixel_values):
    """Return the largest difference, as a share of the largest value."""
    torch.manual_seed(3)
    found = one(pixel_values)
    torch.manual_seed(3)
    expected = other(pixel_values)
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, expected, strict=True))


if __name__ == "__main__":
    print(json.dumps({work.__name__: work() for work in (compile_training, compile_inference, export)}))
