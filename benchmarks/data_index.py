# SPDX-License-Identifier: Apache-2.0
"""Memory and time that opening a data set of COCO's size takes: our readers beside `json.load` of the same file.

Two annotation files are made as large as those of COCO's train2017: 118,000 images, 860,000 objects as polygons of 2
decimals (450 MB), and 1,300,000 panoptic segments. Each reader opens its file in a process of its own, as does
`json.load`, which is what pycocotools starts with; they take turns. Times are those of the processor, not of the clock.
Memory is what the process holds after opening, and at most while it opens, beyond what it held before.

    python benchmarks/data_index.py
"""

import argparse
import gc
import json
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unisegment.data.formats.coco_instance import CocoInstance
from unisegment.data.formats.coco_panoptic import CocoPanoptic

HEIGHT, WIDTH = 480, 640
NUM_CATEGORIES = 80
OBJECTS, SEGMENTS = 7.3, 11.1
"""Of an image, on average, as in COCO."""
_MIB = 2**20


def main() -> None:
    """Measure readers and `json.load` in turn, and print and save what was found."""
    arguments = parse_arguments()
    report: dict = {
        "what": "memory and processor time of opening annotation files of COCO's size",
        "images": arguments.images,
        "rounds": arguments.rounds,
        "cpu": cpu_name(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    for form, write in (("instance", write_instances), ("panoptic", write_panoptic)):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            file = Path(folder) / "annotations.json"
            count = write(file, arguments.images)
            found = {"annotations": count, "MB of the file": round(file.stat().st_size / 1e6)}
            report[form] = found | compare(file, form, arguments.rounds)
        for name, row in report[form].items():
            print(f"{form:9} {name:16} {row}")
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def compare(file: Path, form: str, num_rounds: int) -> dict[str, Any]:
    """Return what each takes, in fresh processes that take turns."""
    rounds: dict[str, list[dict[str, float]]] = {"unisegment": [], "json.load": []}
    for _ in range(num_rounds):
        for name, results in rounds.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                results.append(pool.apply(measure, (name, form, file)))
    rows: dict[str, Any] = {
        name: {key: round(statistics.median(result[key] for result in results), 1) for key in results[0]}
        for name, results in rounds.items()
    }
    rows["time by json.load's"] = round(rows["unisegment"]["seconds"] / rows["json.load"]["seconds"], 2)
    return rows


def measure(name: str, form: str, file: Path) -> dict[str, float]:
    """Open a file in this fresh process."""
    load = opener(name, form)
    gc.collect()
    before = status("VmRSS")
    start = time.process_time()
    opened = load(file)
    seconds = time.process_time() - start
    gc.collect()
    after, peak = status("VmRSS"), status("VmHWM")
    assert len(opened)
    return {"seconds": seconds, "MiB held": after - before, "MiB at most": peak - before}


def opener(name: str, form: str) -> Callable[[Path], Any]:
    """Return what opens a file."""
    if name == "json.load":
        return load_json
    if form == "panoptic":
        return lambda file: CocoPanoptic(file, file.parent, file.parent)
    return lambda file: CocoInstance(file, file.parent)


def load_json(file: Path) -> Any:
    """Return what a file holds, as pycocotools loads it."""
    with file.open() as stream:
        return json.load(stream)


def status(key: str) -> float:
    """Return a size that Linux counts of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def write_instances(file: Path, num_images: int) -> int:
    """Write a file in COCO's instance format; return the number of its annotations."""
    generator = np.random.default_rng(0)

    def annotations() -> Iterator[dict[str, Any]]:
        number = 0
        for image_id in image_ids(num_images):
            for _ in range(generator.poisson(OBJECTS)):
                number += 1
                polygon = corners(generator)
                x, y = polygon[::2], polygon[1::2]
                yield {
                    "segmentation": [polygon],
                    "area": float(generator.uniform(10, 90_000)),
                    "iscrowd": 0,
                    "image_id": image_id,
                    "bbox": [min(x), min(y), round(max(x) - min(x), 2), round(max(y) - min(y), 2)],
                    "category_id": int(generator.integers(1, NUM_CATEGORIES + 1)),
                    "id": number,
                }

    return write_lists(file, num_images, annotations())


def write_panoptic(file: Path, num_images: int) -> int:
    """Write a file in COCO's panoptic format; return the number of its segments."""
    generator = np.random.default_rng(1)
    counts = generator.poisson(SEGMENTS, num_images)

    def annotations() -> Iterator[dict[str, Any]]:
        for image_id, count in zip(image_ids(num_images), counts.tolist(), strict=True):
            ids = generator.choice(2**24 - 1, count, replace=False) + 1
            boxes = generator.integers(0, 480, (count, 4)).tolist()
            segments = [
                {
                    "id": number,
                    "category_id": int(generator.integers(1, NUM_CATEGORIES + 1)),
                    "iscrowd": 0,
                    "bbox": box,
                    "area": box[2] * box[3],
                }
                for number, box in zip(ids.tolist(), boxes, strict=True)
            ]
            yield {"segments_info": segments, "file_name": f"{image_id:012}.png", "image_id": image_id}

    write_lists(file, num_images, annotations())
    return int(counts.sum())


def write_lists(file: Path, num_images: int, annotations: Iterator[dict[str, Any]]) -> int:
    """Write images, annotations and categories, one entry at a time; return the number of annotations."""
    categories = [
        {"supercategory": "thing", "id": number, "name": f"category {number}", "isthing": 1}
        for number in range(1, NUM_CATEGORIES + 1)
    ]
    count = 0
    with file.open("w") as stream:
        for place, image_id in enumerate(image_ids(num_images)):
            stream.write('{"images": [' if place == 0 else ", ")
            stream.write(json.dumps(image_entry(image_id)))
        for count, entry in enumerate(annotations, 1):  # its last number is used
            stream.write('], "annotations": [' if count == 1 else ", ")
            stream.write(json.dumps(entry))
        stream.write(f'], "categories": {json.dumps(categories)}}}')
    return count


def image_ids(num_images: int) -> range:
    """Return ids with gaps, as COCO's."""
    return range(9, 9 + 5 * num_images, 5)


def image_entry(image_id: int) -> dict[str, Any]:
    """Return an entry of `images` as long as COCO's."""
    name = f"{image_id:012}.jpg"
    return {
        "license": 3,
        "file_name": name,
        "coco_url": f"http://images.cocodataset.org/train2017/{name}",
        "height": HEIGHT,
        "width": WIDTH,
        "date_captured": "2013-11-14 11:18:45",
        "flickr_url": f"http://farm9.staticflickr.com/8186/{image_id:010}_4d43a9a8b4_z.jpg",
        "id": image_id,
    }


def corners(generator: np.random.Generator) -> list[float]:
    """Return a polygon x, y, x, y, … of about 20 corners, as annotators click along an outline."""
    count = max(3, int(generator.gamma(2.2, 10.4)))
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    x, y, width, height = generator.uniform((0, 0, 3, 3), (WIDTH, HEIGHT, WIDTH / 2, HEIGHT / 2))
    radii = generator.uniform(0.6, 1, count)
    points = np.stack([x + radii * width * np.cos(angles), y + radii * height * np.sin(angles)], axis=1)
    return np.clip(points, 0, (WIDTH, HEIGHT)).round(2).ravel().tolist()


def cpu_name() -> str:
    """Return what the processor is called."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are written, 0.5 GB at a time")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "data_index.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
