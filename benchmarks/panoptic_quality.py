# SPDX-License-Identifier: Apache-2.0
"""Panoptic quality of a data set: ours beside panopticapi's algorithm, one core, results equal but for rounding.

Ellipses on two halves of an image are the truth, the same ones moved a little the prediction. Evaluated are maps in
memory (`PanopticQuality`) and files in COCO's panoptic format (`panoptic_quality_from_files`). The algorithm is that of
evaluation.py of github.com/cocodataset/panopticapi (BSD-2-Clause), written here with numpy as there: pairs of ids are
numbers, of which all that differ are found and counted by sorting.

    taskset -c 0 python benchmarks/panoptic_quality.py
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from unisegment.metrics import PanopticQuality, panoptic_quality_from_files
from unisegment.ops.masks import ids_to_rgb, rgb_to_ids
from unisegment.structures import PanopticPrediction, SegmentationTarget

HEIGHT, WIDTH, OBJECTS, LABELS = 480, 640, 18, 20
ID_STEP = 1001
"""Ids in files are multiples of it, so that all three bytes of a colour are used."""
RESULT = Path(__file__).parent / "results" / "panoptic_quality.json"


class Drawn(NamedTuple):
    """Id maps of an image, and the label of each id."""

    true: np.ndarray
    predicted: np.ndarray
    labels: dict[int, int]

    def infos(self, which: str) -> list[dict[str, int]]:
        """Return the segments of the "true" or the "predicted" map."""
        ids, areas = np.unique(getattr(self, which), return_counts=True)
        return [
            {"id": segment, "category_id": self.labels[segment], "iscrowd": 0, "area": area}
            for segment, area in zip(ids.tolist(), areas.tolist(), strict=True)
            if segment
        ]


def main() -> None:
    """Measure both, and print and save what was found."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    images = draw(arguments.images)
    report: dict[str, Any] = {
        "what": f"panoptic quality of {len(images)} images of {WIDTH}x{HEIGHT}, seconds on one core, medians",
        "cores": len(os.sched_getaffinity(0)),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    with tempfile.TemporaryDirectory() as folder:
        write(images, Path(folder))
        for name, calls in {"memory": in_memory(images), "files": from_files(Path(folder))}.items():
            report[name] = compare(calls, arguments.rounds)
            print(name, json.dumps(report[name]), flush=True)
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


def compare(calls: dict[str, Callable[[], tuple[float, ...]]], rounds: int) -> dict[str, Any]:
    """Return the times of both, which take turns, and how many times as fast ours is."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        found = {}
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            began = time.perf_counter()
            found[name] = calls[name]()
            seconds[name].append(time.perf_counter() - began)
        difference = max(abs(one - other) for one, other in zip(*found.values(), strict=True))
        if difference > 1e-12:
            raise SystemExit(f"results differ by {difference:g}: {found}")
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {name: round(value, 3) for name, value in medians.items()} | {
        "panopticapi / unisegment": round(medians["panopticapi"] / medians["unisegment"], 2),
        "pq": round(found["unisegment"][0], 6),
        "largest difference": difference,
    }


def draw(count: int) -> list[Drawn]:
    """Return images that differ."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    images = []
    for _ in range(count):
        places = np.c_[generator.random((OBJECTS, 2)) * (HEIGHT, WIDTH), generator.uniform(15, 90, (OBJECTS, 2))]
        maps = []
        for shake in (0.0, 4.0):
            ids = np.where(columns < WIDTH // 2, 1, 2).astype(np.int32)
            ids[:20] = 0
            for segment, (y, x, height, width) in enumerate(places + generator.normal(0, shake, places.shape), start=3):
                ids[((rows - y) / (height + 8)) ** 2 + ((columns - x) / (width + 8)) ** 2 < 1] = segment
            maps.append(ids * ID_STEP)
        labels = {(segment + 1) * ID_STEP: int(generator.integers(LABELS)) for segment in range(OBJECTS + 2)}
        images.append(Drawn(*maps, labels))
    return images


def published(true: np.ndarray, predicted: np.ndarray, drawn: Any, counts: np.ndarray) -> None:
    """Add an image to the counts: true positives, false positives, false negatives and IoU of each label."""
    true_infos, predicted_infos = ({info["id"]: dict(info) for info in infos} for infos in drawn)
    for segment, area in zip(*np.unique(predicted, return_counts=True), strict=True):
        if segment:
            predicted_infos[segment]["area"] = area
    both = true.astype(np.uint64) * 2**24 + predicted.astype(np.uint64)
    pairs = zip(*np.unique(both, return_counts=True), strict=True)
    shared = {(pair // 2**24, pair % 2**24): area for pair, area in pairs}
    matched: tuple[set[int], set[int]] = set(), set()
    for (one, other), area in shared.items():
        label = true_infos.get(one, {}).get("category_id")
        if label is None or label != predicted_infos.get(other, {}).get("category_id"):
            continue
        union = predicted_infos[other]["area"] + true_infos[one]["area"] - area - shared.get((0, other), 0)
        if area / union > 0.5:
            counts[:, label] += (1, 0, 0, area / union)
            matched[0].add(one)
            matched[1].add(other)
    for segment, info in true_infos.items():
        counts[2, info["category_id"]] += segment not in matched[0]
    for segment, info in predicted_infos.items():
        if segment not in matched[1]:
            counts[1, info["category_id"]] += shared.get((0, segment), 0) / info["area"] <= 0.5


def mean_quality(counts: np.ndarray) -> tuple[float, ...]:
    """Return PQ, SQ and RQ over the labels that occur."""
    right, false, missed, overlap = counts[:, counts[:3].sum(0) > 0]
    pq, sq, rq = (
        overlap / (right + (false + missed) / 2),
        np.divide(overlap, right, out=np.zeros_like(overlap), where=right > 0),
        right / (right + (false + missed) / 2),
    )
    return tuple(float(values.mean()) for values in (pq, sq, rq))


def in_memory(images: list[Drawn]) -> dict[str, Callable[[], tuple[float, ...]]]:
    """Return both evaluations of maps in memory."""
    infos = [(image.infos("true"), image.infos("predicted")) for image in images]
    targets = [
        SegmentationTarget(
            labels=torch.tensor([info["category_id"] for info in of_image[0]]),
            id_map=torch.from_numpy(image.true),
            segment_ids=torch.tensor([info["id"] for info in of_image[0]]),
        )
        for image, of_image in zip(images, infos, strict=True)
    ]
    predictions = [
        PanopticPrediction(
            torch.from_numpy(image.predicted),
            [{"id": info["id"], "label_id": info["category_id"], "score": 1.0} for info in of_image[1]],
        )
        for image, of_image in zip(images, infos, strict=True)
    ]

    def theirs() -> tuple[float, ...]:
        counts = np.zeros((4, LABELS))
        for image, of_image in zip(images, infos, strict=True):
            published(image.true, image.predicted, of_image, counts)
        return mean_quality(counts)

    def ours() -> tuple[float, ...]:
        metric = PanopticQuality(LABELS, [])
        metric.update(predictions, targets)
        return tuple(metric.compute()["all"][key] for key in ("pq", "sq", "rq"))

    return {"panopticapi": theirs, "unisegment": ours}


def write(images: list[Drawn], folder: Path) -> None:
    """Write the images in COCO's panoptic format."""
    for which in ("true", "predicted"):
        (folder / which).mkdir()
        annotations = []
        for number, image in enumerate(images):
            Image.fromarray(ids_to_rgb(getattr(image, which))).save(folder / which / f"{number}.png")
            annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": image.infos(which)})
        categories = [{"id": label, "name": str(label), "isthing": 1} for label in range(LABELS)]
        (folder / f"{which}.json").write_text(json.dumps({"annotations": annotations, "categories": categories}))


def from_files(folder: Path) -> dict[str, Callable[[], tuple[float, ...]]]:
    """Return both evaluations of files."""
    paths = [folder / name for name in ("true.json", "true", "predicted.json", "predicted")]

    def read(path: Path) -> np.ndarray:
        return rgb_to_ids(np.asarray(Image.open(path)))

    def theirs() -> tuple[float, ...]:
        counts = np.zeros((4, LABELS))
        true, predicted = (json.loads(path.read_text())["annotations"] for path in paths[::2])
        for one, other in zip(true, predicted, strict=True):
            infos = one["segments_info"], other["segments_info"]
            published(read(paths[1] / one["file_name"]), read(paths[3] / other["file_name"]), infos, counts)
        return mean_quality(counts)

    def ours() -> tuple[float, ...]:
        found = panoptic_quality_from_files(*paths)["all"]
        return tuple(found[key] for key in ("pq", "sq", "rq"))

    return {"panopticapi": theirs, "unisegment": ours}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
