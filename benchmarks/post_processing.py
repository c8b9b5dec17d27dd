# SPDX-License-Identifier: Apache-2.0
"""How much of a perfect mask survives post-processing: ours beside transformers', on the same logits.

Ellipses of known shape are drawn on images of 480x640. The network is replaced by the best that it could say at stride
4: logits that grow with the share of each 4x4 cell that the object covers, 0 where it covers half. Both processors then
make instance masks at the original size, and each is compared with the shape itself. What is lost is lost by
post-processing alone.

    python benchmarks/post_processing.py
"""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
import transformers
from transformers import Mask2FormerImageProcessorPil

from unisegment import UniSegmentImageProcessor

HEIGHT, WIDTH = 480, 640
# COCO's classes of size, by area in pixels.
AREAS = {"small": (12**2, 32**2), "medium": (32**2, 96**2), "large": (96**2, 300**2)}


def main() -> None:
    """Compare both on some images of each size of object, and print and save the mean overlaps."""
    arguments = parse_arguments()
    generator = torch.Generator().manual_seed(0)
    theirs, ours = Mask2FormerImageProcessorPil(), UniSegmentImageProcessor()
    report: dict = {
        "what": "mean IoU of instance masks made from perfect stride-4 logits, image 480x640",
        "objects of each size": arguments.objects,
        "transformers": transformers.__version__,
    }
    for name, areas in AREAS.items():
        overlaps: dict[str, list[float]] = {"transformers": [], "unisegment": []}
        for _ in range(arguments.objects):
            mask = ellipse(areas, generator)
            outputs = perfect_outputs(mask)
            their_masks = theirs.post_process_instance_segmentation(
                outputs, target_sizes=[(HEIGHT, WIDTH)], return_binary_maps=True
            )[0]["segmentation"]
            our_masks = ours.post_process_instance_segmentation(outputs, target_sizes=[(HEIGHT, WIDTH)])[0].masks
            overlaps["transformers"].append(overlap(their_masks[0] > 0.5, mask))
            overlaps["unisegment"].append(overlap(our_masks[0], mask))
        means = {peer: round(sum(values) / len(values), 3) for peer, values in overlaps.items()}
        report[name] = means
        print(f"{name:8} transformers {means['transformers']:.3f}   unisegment {means['unisegment']:.3f}")
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def ellipse(areas: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Return the mask (h w) of an ellipse somewhere in the image, of an area between the two given."""
    low, high, stretch, angle, y, x = torch.rand(6, generator=generator).tolist()
    area = areas[0] + low * (areas[1] - areas[0])
    ratio = 0.5 + 1.5 * high * (1 if stretch > 0.5 else 0.5)
    half_axes = ((area / torch.pi * ratio) ** 0.5, (area / torch.pi / ratio) ** 0.5)
    margin = max(half_axes) + 1
    center = (margin + y * (HEIGHT - 2 * margin), margin + x * (WIDTH - 2 * margin))
    rows = torch.arange(HEIGHT)[:, None] + 0.5 - center[0]
    columns = torch.arange(WIDTH)[None] + 0.5 - center[1]
    cosine, sine = torch.cos(torch.tensor(angle * torch.pi)), torch.sin(torch.tensor(angle * torch.pi))
    along, across = columns * cosine + rows * sine, rows * cosine - columns * sine
    return (along / half_axes[0]) ** 2 + (across / half_axes[1]) ** 2 <= 1


def perfect_outputs(mask: torch.Tensor) -> SimpleNamespace:
    """Return outputs of one certain query whose mask is as right as stride 4 allows."""
    covered = F.avg_pool2d(mask[None, None].float(), 4)
    return SimpleNamespace(
        class_queries_logits=torch.tensor([[[20.0, 0.0]]]), masks_queries_logits=20 * (covered - 0.5)
    )


def overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the intersection over union of two masks."""
    return ((one & other).sum() / (one | other).sum()).item()


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "post_processing.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
