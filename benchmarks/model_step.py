# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a forward pass and of a training step: ours beside transformers' Mask2Former, same weights.

Each model runs in processes of its own, in turn, so that neither warms the other's caches or shares its memory. Both
must give the same logits before the first attention mask, to 1e-4 of their scale, and after the last one to 1e-2 in the
mean: with random weights about one pixel in a million is so near the threshold of a mask that the last bit decides, and
then moves queries by more than rounding. (Tests show all layers equal on images too small for that.) Run it with
nothing else on the machine:

    python benchmarks/model_step.py --threads 2
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from unisegment import UniSegmentForUniversalSegmentation

NUM_LABELS = 133
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def main() -> None:
    """Measure both models in turn, and print and save what was found."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        # Swin-T with the sizes of the paper; drop path would make two runs of the same weights differ.
        backbone = SwinConfig(drop_path_rate=0.0, out_features=STAGES)
        torch.manual_seed(0)
        Mask2FormerForUniversalSegmentation(
            Mask2FormerConfig(backbone_config=backbone, num_labels=NUM_LABELS)
        ).save_pretrained(folder)
        rounds: dict[str, list[dict]] = {"transformers": [], "unisegment": []}
        for _ in range(arguments.rounds):
            for name, results in rounds.items():
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    results.append(pool.apply(measure, (name, folder, arguments)))
    first, last = (
        max(difference(ours[key], theirs[key]) for ours, theirs in zip(*rounds.values(), strict=True))
        for key in ("first logits", "logits")
    )
    assert first < 1e-4, f"the two models disagree by {first} of their scale: nothing to compare"
    assert last < 1e-2, f"the two models disagree by {last} of their scale: nothing to compare"
    report = {
        "what": "Swin-T Mask2Former, 133 classes, 100 queries, float32",
        "image": [arguments.height, arguments.width],
        "targets": arguments.targets,
        "threads": arguments.threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "mean difference of logits, relative": last,
    }
    for key in ("inference seconds", "training step seconds", "inference peak MiB", "training peak MiB"):
        theirs, ours = (
            statistics.median(result[key] for result in rounds[name]) for name in ("transformers", "unisegment")
        )
        report[key] = {"transformers": round(theirs, 3), "unisegment": round(ours, 3), "ratio": round(theirs / ours, 2)}
        print(f"{key:24} transformers {theirs:9.2f}   unisegment {ours:9.2f}   ratio {theirs / ours:5.2f}")
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def measure(name: str, folder: str, arguments: argparse.Namespace) -> dict:
    """Return medians of time and the peaks of memory above the loaded model, for one model in this fresh process."""
    torch.set_num_threads(arguments.threads)
    classes = {"transformers": Mask2FormerForUniversalSegmentation, "unisegment": UniSegmentForUniversalSegmentation}
    model = classes[name].from_pretrained(folder)
    generator = torch.Generator().manual_seed(1)
    size = (arguments.height, arguments.width)
    pixel_values = torch.randn(1, 3, *size, generator=generator)
    coarse = torch.rand(arguments.targets, 1, size[0] // 16, size[1] // 16, generator=generator)
    masks = [torch.nn.functional.interpolate(coarse, size, mode="bilinear")[:, 0] > 0.55]
    labels = [torch.randint(NUM_LABELS, (arguments.targets,), generator=generator)]
    # transformers samples its masks with grid_sample and crashes on anything but floats.
    mask_labels = [mask.float() for mask in masks] if name == "transformers" else masks

    def infer() -> torch.Tensor:
        with torch.no_grad():
            return model(pixel_values).masks_queries_logits

    def train() -> None:
        model.zero_grad()
        model(pixel_values, mask_labels=mask_labels, class_labels=labels).loss.backward()

    result: dict = {}
    model.eval()
    infer()
    result["inference seconds"] = median_seconds(infer, arguments.repeats)
    result["inference peak MiB"] = peak_mebibytes()
    model.train()
    train()
    result["training step seconds"] = median_seconds(train, arguments.repeats)
    result["training peak MiB"] = peak_mebibytes()
    model.eval()
    with torch.no_grad():
        outputs = model(pixel_values, output_auxiliary_logits=True)
    result["first logits"] = outputs.auxiliary_logits[0]["masks_queries_logits"]
    result["logits"] = outputs.masks_queries_logits
    return result


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the mean difference of two tensors, as a share of the largest value."""
    return ((ours - theirs).abs().mean() / theirs.abs().max()).item()


def median_seconds(run, repeats: int) -> float:
    """Time a function a few times."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_mebibytes() -> float:
    """Return the most memory this process has ever held, libraries and weights included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "model_step_cpu.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
