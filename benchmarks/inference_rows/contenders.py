# SPDX-License-Identifier: Apache-2.0
"""The calls that take turns, and whether they compute the same."""

import copy
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from gpu_report.model_pair import Contender, compare_logits, differences, sure_queries
from torch import Tensor

from unisegment import UniSegmentImageProcessor
from unisegment.inference.compiling import CompiledNetwork

MEAN_ERROR = {"float32": 1e-2, "compiled": 1e-2, "bfloat16": 2e-2, "autocast": 2e-2, "compiled_bfloat16": 2e-2}
"""How far logits may be from transformers' in float32 in the mean, as a share of the largest."""
EQUAL_PIXELS = {"float32": 0.99, "compiled": 0.99, "bfloat16": 0.6, "autocast": 0.6, "compiled_bfloat16": 0.6}
"""Which share of a panoptic map must be as theirs, at least. With random weights all queries are about equally sure, so
that rounding decides more pixels than in a trained model (benchmarks/number_formats.py has those)."""
_PROCESSOR = UniSegmentImageProcessor(stuff_label_ids=[])


def network_of(network: Any, kind: str, images: Tensor) -> Callable[[], Any]:
    """Return what predicts these images in one of the forms of `cases.KINDS`, without a gradient."""
    dtype = torch.float32
    if kind.endswith("bfloat16"):
        dtype, network = torch.bfloat16, copy.deepcopy(network).bfloat16()
    if kind.startswith("compiled"):
        network = CompiledNetwork(network)
    inputs = images.to(dtype)

    def predict() -> Any:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
            outputs = network(pixel_values=inputs)
        if not getattr(network, "is_compiled", True):
            raise RuntimeError("it was not compiled, see the warning")  # times would be those of the other form
        return outputs

    return predict


def disagreement(pair: Sequence[Contender], images: Tensor) -> dict[str, Any]:
    """Return an `error` where both are too far apart in float32, else nothing; see `compare_logits`.

    EoMT without masks has no logits but the last, and no thresholds before them.
    """
    if not hasattr(pair[0].network.config, "num_blocks"):
        found = compare_logits(pair, images)
        return {"error": found["error"]} if "error" in found else {}
    with torch.no_grad():
        largest, _ = differences(*(one.network(images) for one in pair))
    return {} if largest <= 1e-4 else {"error": f"the two models differ by {largest:.2g}"}


def compare(ours: Any, theirs: Any, kind: str) -> dict[str, Any]:
    """Return how far outputs of one form are from transformers', with an `error` where it is too far."""
    mean = differences(ours, theirs)[1]
    maps = [panoptic_maps(outputs) for outputs in (ours, theirs)]
    equal = (maps[0] == maps[1]).float().mean().item()
    found = {"mean error": float(f"{mean:.2g}"), "equal panoptic pixels": round(equal, 5)}
    if mean <= MEAN_ERROR[kind] and equal >= EQUAL_PIXELS[kind]:  # not a number is wrong, too
        return found
    return {"error": f"mean error {mean:.2g}, {equal:.2%} of the panoptic pixels are equal"}


def panoptic_maps(outputs: Any) -> Tensor:
    """Return the label of each pixel's segment (b h w), -1 where there is none.

    Random weights are sure of no query, and their masks may be nowhere: some are made sure, and half of the image each.
    """
    masks = outputs.masks_queries_logits.float()
    masks = masks - masks.flatten(2).median(2).values[..., None, None]
    sure = SimpleNamespace(class_queries_logits=sure_queries(masks.shape, masks.device), masks_queries_logits=masks)
    results = _PROCESSOR.post_process_panoptic_segmentation(sure, overlap_mask_area_threshold=0.0)
    labels = [torch.tensor([-1, *(info["label_id"] for info in result.segments_info)]) for result in results]
    return torch.stack([of[result.segmentation.long()] for of, result in zip(labels, results, strict=True)])
