# SPDX-License-Identifier: Apache-2.0
"""Compile a model for inference as `Segmenter` does, and count the graphs of images of several sizes."""

import torch
from torch._dynamo.testing import CompileCounterWithBackend

from unisegment.inference.compiling import CompiledNetwork

SIZES = [(1, 128, 160), (1, 160, 128), (1, 128, 224), (2, 160, 128), (3, 160, 224)]


@torch.no_grad()
def compiled_inference(model, sizes=SIZES):
    """Return how many graphs there are after each call, their own operators, and how far they are from the model."""
    torch.compiler.reset()
    graphs, counts, largest = CompileCounterWithBackend("eager"), [], 0.0
    network = CompiledNetwork(model, backend=graphs)
    for number, (batch, *size) in enumerate(sizes):
        torch.manual_seed(number)
        inputs = {
            "pixel_values": torch.randn(batch, 3, *size),
            "pixel_mask": torch.ones(batch, *size, dtype=torch.long),
        }
        pairs = zip(network(**inputs).to_tuple(), model(**inputs).to_tuple(), strict=True)
        for found, expected in pairs:
            if isinstance(found, torch.Tensor) and found.is_floating_point():
                largest = max(largest, ((found - expected).abs().max() / expected.abs().max()).item())
        counts.append(graphs.frame_count)
    nodes = [node for graph in graphs.graphs for node in graph.graph.nodes]
    names = {node.target.name() for node in nodes if isinstance(node.target, torch._ops.OpOverload)}
    return counts, sorted(name.removeprefix("unisegment::") for name in names if "unisegment::" in name), largest
