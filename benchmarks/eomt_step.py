# SPDX-License-Identifier: Apache-2.0
"""Time and memory of inference and of a training step: our EoMT beside transformers' Eomt, same weights.

A ViT-S of 12 layers with 4 registers, of which the last 3 carry 200 queries, images of 640 x 640 pixels. Inference is
measured without masks, as at the end of a training run, and with them, as at its start; the training step with them,
with 20 segments. The two take turns. Beside inference stand its matrix products alone: the linear layers, attention and
the masks, written to memory that is there. Run it with nothing else on the machine:

    python benchmarks/eomt_step.py --threads 2
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "kernels"))  # where process_memory.py is

import torch
import torch.nn.functional as F
import transformers
from process_memory import peak_mebibytes
from transformers import EomtConfig, EomtForUniversalSegmentation

from unisegment.models.eomt.checkpoint_conversion import from_stock
from unisegment.models.eomt.modeling_eomt import UniSegmentEomtForUniversalSegmentation
from unisegment.models.eomt.stock_checkpoints import read_eomt_config

RESULTS = Path(__file__).parent / "results" / "eomt_step_cpu.json"
SIZES = {
    "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": 640, "patch_size": 16,
    "num_queries": 200, "num_blocks": 3, "num_register_tokens": 4, "num_labels": 133,
}  # fmt: skip
SEGMENTS = 20
PARTS = {"inference": 0.0, "inference with masks": 1.0, "training": 1.0}
"""What is measured, and the probability that a query is held to its mask."""
TOLERANCE, LOSS_TOLERANCE = 1e-4, 0.02
"""How far logits may differ, as a share of the largest; and losses, whose points are random."""


def main() -> None:
    """Measure both models in turn, and print and save what was found."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    report = {
        "what": "EoMT-S at 640 x 640, one image, ours beside transformers' Eomt",
        "threads": arguments.threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    for part in arguments.parts:
        report[part] = compare(part, arguments.rounds)
        print(json.dumps({"part": part, **report[part]}), flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


def compare(part: str, rounds: int) -> dict:
    """Return seconds and mebibytes of both models, and ours as shares of theirs."""
    stock, ours = twins(PARTS[part])
    inputs = make_inputs() if part == "training" else {"pixel_values": make_inputs()["pixel_values"]}
    runs: dict[str, Callable[[], torch.Tensor]] = {
        "transformers": lambda: step(stock, inputs, part),
        "unisegment": lambda: step(ours, inputs, part),
    }
    check(*(run() for run in runs.values()), LOSS_TOLERANCE if part == "training" else TOLERANCE)
    if part == "inference":
        runs["matrix products alone"] = matrix_products()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name in list(runs)[:: -1 if turn % 2 else 1]:
            began = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - began)
    peaks = {name: round(peak_mebibytes(runs[name])) for name in ("transformers", "unisegment")}
    report: dict = {"memory_ratio": round(peaks["unisegment"] / peaks["transformers"], 3), "peak_mebibytes": peaks}
    for kind, of in (("median", statistics.median), ("fastest", min)):
        found = {name: of(times) for name, times in seconds.items()}
        report[f"{kind} seconds"] = {name: round(value, 4) for name, value in found.items()}
        report[f"{kind} ratio"] = {name: round(value / found["transformers"], 3) for name, value in found.items()}
    return report


def twins(probability: float) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return transformers' model and ours with the same weights, none of which is at a special value."""
    torch.manual_seed(0)
    stock = EomtForUniversalSegmentation(EomtConfig(**SIZES))
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
        stock.attn_mask_probs.fill_(probability)
    config = read_eomt_config(stock.config.to_dict())[1]
    ours = UniSegmentEomtForUniversalSegmentation(config)
    ours.load_state_dict(from_stock(stock.state_dict(), config))
    return stock, ours


def make_inputs() -> dict:
    """Return an image, and blobs for segments."""
    torch.manual_seed(1)
    size = SIZES["image_size"]
    coarse = torch.rand(SEGMENTS, 1, size // 64, size // 64)
    return {
        "pixel_values": torch.randn(1, 3, size, size),
        "mask_labels": [(F.interpolate(coarse, (size, size), mode="bilinear")[:, 0] > 0.55).float()],
        "class_labels": [torch.randint(SIZES["num_labels"], (SEGMENTS,))],
    }


def step(model: torch.nn.Module, inputs: dict, part: str) -> torch.Tensor:
    """Return the mask logits of a forward pass, or the loss of a training step."""
    if part != "training":
        with torch.no_grad():
            return model.eval()(**inputs).masks_queries_logits
    model.train().zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    return loss.detach()


def check(theirs: torch.Tensor, mine: torch.Tensor, tolerance: float) -> None:
    """Stop when the two do not compute the same."""
    difference = ((mine - theirs).abs().max() / theirs.abs().max()).item()
    if difference > tolerance:
        raise SystemExit(f"results differ by {difference:.1e} of the largest value, expected at most {tolerance:g}.")


def matrix_products() -> Callable[[], None]:
    """Return what does the matrix products of inference without masks, and nothing else."""
    dim, heads, queries = (SIZES[key] for key in ("hidden_size", "num_attention_heads", "num_queries"))
    side = SIZES["image_size"] // SIZES["patch_size"]
    patches = side**2
    few = 1 + SIZES["num_register_tokens"] + patches
    layers = [few] * (SIZES["num_hidden_layers"] - SIZES["num_blocks"]) + [few + queries] * SIZES["num_blocks"]
    products = [(patches, 3 * SIZES["patch_size"] ** 2, dim)]
    for tokens in layers:
        products += [(tokens, dim, 3 * dim), (tokens, dim, dim), (tokens, dim, 4 * dim), (tokens, 4 * dim, dim)]
    products += [(patches, dim, 4 * dim), (4 * patches, dim, 4 * dim), (queries, dim, 16 * patches)]
    made = {shape: [torch.randn(shape[:2]), torch.randn(shape[1:]), torch.empty(shape[::2])] for shape in products}
    heads_of = {tokens: torch.randn(3, 1, heads, tokens, dim // heads) for tokens in layers}

    @torch.no_grad()
    def run() -> None:
        for shape in products:
            one, other, result = made[shape]
            torch.mm(one, other, out=result)
        for tokens in layers:
            F.scaled_dot_product_attention(*heads_of[tokens])

    return run


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
