# SPDX-License-Identifier: Apache-2.0
"""Images a second that one core makes ready for training at 1024x1024: ours beside transformers' image processor.

Files are made in COCO's two formats: JPEG images of 480x640 with the smooth parts and the noise of photos, and segments
that do not overlap, as a PNG file of segment ids or as polygons. Both contenders read the same files. Resized alike
(the long side to 1024, padded to 1024x1024), they must give the same masks and, but for rounding, the same pixels; ours
is measured with the large scale jitter of COCO's recipes, too. transformers' processor takes maps of ids and knows no
such files, so it is given those that pycocotools and our `rgb_to_ids` make; where torchvision is installed, its second
processor runs, too.

Each contender has one thread and processes of its own, which take turns. Times are those of the processor, not of the
clock, so other processes disturb them little:

    python benchmarks/data_loading.py
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import transformers
from PIL import Image, ImageFilter
from pycocotools import mask as coco_mask
from transformers import Mask2FormerImageProcessorPil
from transformers.utils import is_torchvision_available

from unisegment.data.collate import Collate
from unisegment.data.formats.coco_instance import CocoInstance
from unisegment.data.formats.coco_panoptic import CocoPanoptic
from unisegment.data.transforms.training import TrainTransform
from unisegment.ops.masks import ids_to_rgb, rgb_to_ids

HEIGHT, WIDTH, SIDE = 480, 640, 1024
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NUM_LABELS = 80
JITTER = "unisegment, large scale jitter"


def main() -> None:
    """Measure every contender on all files, and print and save what was found."""
    arguments = parse_arguments()
    names = ["unisegment", JITTER, "transformers, PIL"]
    names += ["transformers, torchvision"] if is_torchvision_available() else []
    report: dict = {
        "what": f"images a second of one core, {HEIGHT}x{WIDTH} JPEG files to {SIDE}x{SIDE} training batches",
        "images": arguments.images,
        "rounds": arguments.rounds,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, PIL)},
    }
    for form in ("panoptic", "instance"):
        for segments in (20, 100):
            with tempfile.TemporaryDirectory() as folder:
                write_files(Path(folder), arguments.images, segments)
                found = compare(Path(folder), form, names, arguments.rounds)
            report[f"{form}, {segments} segments"] = found
            for name, row in found.items():
                print(f"{form:9} {segments:4} segments  {name:32} " + "  ".join(f"{k} {v}" for k, v in row.items()))
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def compare(folder: Path, form: str, names: list[str], num_rounds: int) -> dict[str, dict]:
    """Run the contenders in turn, each in fresh processes, and return what they did."""
    rounds: dict[str, list[dict]] = {name: [] for name in names}
    for _ in range(num_rounds):
        for name, results in rounds.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                results.append(pool.apply(measure, (name, folder, form)))
    ours = rounds["unisegment"][0]["batch"]
    for name in names:
        if name != JITTER:
            check_same(ours, rounds[name][0]["batch"])
    median = {name: statistics.median(result["seconds"] for result in rounds[name]) for name in names}
    decoding = statistics.median(result["seconds of JPEG"] for result in rounds["unisegment"])
    rows: dict[str, dict] = {}
    for name in names:
        rows[name] = {"images per second": round(1 / median[name], 1)}
        if name.startswith("unisegment"):
            rows[name]["share of JPEG decoding"] = round(decoding / median[name], 2)
        else:
            rows[name]["ratio"] = round(median[name] / median["unisegment"], 2)
        rows[name]["MiB of a batch of 1"] = rounds[name][0]["MiB"]
    return rows


def measure(name: str, folder: Path, form: str) -> dict:
    """Return median times of an image, and a batch, of one contender in this fresh process."""
    torch.set_num_threads(1)
    load, count = contender(name, folder, form)
    batch = load(0)
    times = [processor_seconds(lambda index=index: load(index)) for index in range(count)]
    files = sorted((folder / "images").iterdir())
    return {
        "seconds": statistics.mean(times),
        "seconds of JPEG": statistics.mean(processor_seconds(lambda file=file: decode(file)) for file in files),
        "batch": compact(batch),
        "MiB": round(num_bytes(batch) / 2**20, 1),
    }


def contender(name: str, folder: Path, form: str) -> tuple[Callable[[int], dict[str, Any]], int]:
    """Return a function that makes a batch of the image of a number, and how many there are."""
    files = (folder / "panoptic.json", folder / "images", folder / "panoptic")
    samples = CocoPanoptic(*files) if form == "panoptic" else CocoInstance(folder / "instances.json", files[1])
    if not name.startswith("unisegment"):
        read = panoptic_maps(folder) if form == "panoptic" else instance_maps(folder)
        process = their_processor(name)
        return lambda index: process(*read(index)), len(samples)
    scale = (0.1, 2.0) if name == JITTER else (1.0, 1.0)
    transform = TrainTransform(flip_prob=0.5 if name == JITTER else 0.0, jitter_size=(SIDE, SIDE), jitter_scale=scale)
    collate = Collate(MEAN, STD)
    return lambda index: collate([transform(samples[index], np.random.default_rng(index))]), len(samples)


def their_processor(name: str) -> Callable[..., dict[str, Any]]:
    """Return a function from an image, a map of ids and the label of each id to a batch."""
    kind = Mask2FormerImageProcessorPil if name.endswith("PIL") else transformers.Mask2FormerImageProcessor
    processor = kind(
        size={"shortest_edge": SIDE, "longest_edge": SIDE},
        pad_size={"height": SIDE, "width": SIDE},
        ignore_index=0,
        image_mean=MEAN,
        image_std=STD,
    )
    return lambda image, ids, label_of: processor(image, ids, label_of, return_tensors="pt")


def panoptic_maps(folder: Path) -> Callable[[int], tuple]:
    """Return a function that reads an image, its map and the labels in it, as users of transformers do."""
    content = json.loads((folder / "panoptic.json").read_text())

    def read(index: int) -> tuple:
        entry = content["annotations"][index]
        ids = rgb_to_ids(np.asarray(Image.open(folder / "panoptic" / entry["file_name"])))
        label_of = {segment["id"]: segment["category_id"] for segment in entry["segments_info"]}
        return Image.open(folder / "images" / content["images"][index]["file_name"]).convert("RGB"), ids, label_of

    return read


def instance_maps(folder: Path) -> Callable[[int], tuple]:
    """Return the same for polygons, which pycocotools draws."""
    content = json.loads((folder / "instances.json").read_text())
    objects: dict[int, list] = {}
    for annotation in content["annotations"]:
        objects.setdefault(annotation["image_id"], []).append(annotation)

    def read(index: int) -> tuple:
        ids = np.zeros((HEIGHT, WIDTH), dtype=np.int32)
        for number, annotation in enumerate(objects[index], 1):
            rle = coco_mask.merge(coco_mask.frPyObjects(annotation["segmentation"], HEIGHT, WIDTH))
            ids[coco_mask.decode(rle) > 0] = number
        label_of = {number: annotation["category_id"] for number, annotation in enumerate(objects[index], 1)}
        return Image.open(folder / "images" / content["images"][index]["file_name"]).convert("RGB"), ids, label_of

    return read


def write_files(folder: Path, num_images: int, num_segments: int) -> None:
    """Write images with segments that do not overlap, in both formats; ids of categories are labels."""
    (folder / "images").mkdir()
    (folder / "panoptic").mkdir()
    generator = np.random.default_rng(num_segments)
    content: dict = {"categories": [{"id": label, "name": str(label), "isthing": 1} for label in range(NUM_LABELS)]}
    images, objects, panoptic = [], [], []
    for index in range(num_images):
        photo(generator).save(folder / "images" / f"{index:03}.jpg", quality=95)
        images.append({"id": index, "file_name": f"{index:03}.jpg", "height": HEIGHT, "width": WIDTH})
        ids = np.zeros((HEIGHT, WIDTH), dtype=np.int32)
        segments = []
        # transformers' processor with Pillow takes no ids above 255.
        for number, polygon in enumerate(polygons(generator, num_segments), 1):
            label = int(generator.integers(NUM_LABELS))
            objects.append({"image_id": index, "category_id": label, "iscrowd": 0, "segmentation": [polygon]})
            ids[coco_mask.decode(coco_mask.frPyObjects([polygon], HEIGHT, WIDTH)[0]) > 0] = number
            segments.append({"id": number, "category_id": label, "iscrowd": 0})
        Image.fromarray(ids_to_rgb(ids)).save(folder / "panoptic" / f"{index:03}.png")
        panoptic.append({"image_id": index, "file_name": f"{index:03}.png", "segments_info": segments})
    content["images"] = images
    for name, annotations in (("panoptic.json", panoptic), ("instances.json", objects)):
        (folder / name).write_text(json.dumps(content | {"annotations": annotations}))


def photo(generator: np.random.Generator) -> Image.Image:
    """Return an image with detail at every scale, whose JPEG file is about as large as COCO's."""
    image = np.zeros((HEIGHT, WIDTH, 3))
    for radius, contrast in ((60, 60), (15, 30), (4, 15), (1, 8), (0, 6)):
        noise = Image.fromarray(generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        layer = np.asarray(noise.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float64) - 127.5
        image += layer * contrast / layer.std()
    return Image.fromarray((image + 127.5).clip(0, 255).astype(np.uint8))


def polygons(generator: np.random.Generator, number: int) -> list[list[float]]:
    """Return one polygon of 40 corners for each cell of a grid, each inside of its cell."""
    columns = next(count for count in range(int(number**0.5), 0, -1) if number % count == 0)
    rows = number // columns
    shapes = []
    for cell in range(number):
        angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        radii = generator.uniform(0.6, 0.95, 40)
        x = (cell % columns + 0.5 + 0.5 * radii * np.cos(angles)) * WIDTH / columns
        y = (cell // columns + 0.5 + 0.5 * radii * np.sin(angles)) * HEIGHT / rows
        shapes.append(np.stack([x, y], axis=1).ravel().round(2).tolist())
    return shapes


def decode(file: Path) -> None:
    """Decode a JPEG file to the pixels that Pillow holds."""
    with Image.open(file) as image:
        image.load()


def processor_seconds(run: Callable[[], Any], repeats: int = 3) -> float:
    """Return the median time that this process computes for a call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return statistics.median(times)


def compact(batch: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the pixels, labels and masks of a batch of one, the masks as a map of their numbers."""
    target = batch["mask_labels"][0]
    masks = target.bool() if isinstance(target, torch.Tensor) else target.binary_masks()
    numbers = torch.zeros(masks.shape[1:], dtype=torch.int32)
    for number, mask in enumerate(masks, 1):
        numbers[mask] = number
    labels = batch["class_labels"][0]
    return {"pixels": batch["pixel_values"][0].numpy(), "masks": numbers.numpy(), "labels": labels.numpy()}


def check_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    """Raise an AssertionError unless two batches show the same inside of the image."""
    assert ours["labels"].tolist() == theirs["labels"].tolist(), "other labels: nothing to compare"
    inside = slice(HEIGHT * SIDE // WIDTH)
    difference = np.abs(ours["pixels"][:, inside] - theirs["pixels"][:, inside]).max()
    assert difference < 0.02, f"pixels differ by {difference}, more than a grey level: nothing to compare"
    equal = (ours["masks"] == theirs["masks"]).mean()
    assert equal > 0.999, f"only {equal:.1%} of the pixels of masks agree: nothing to compare"


def num_bytes(batch: dict[str, Any]) -> int:
    """Return the memory of all tensors of a batch."""
    if isinstance(batch, torch.Tensor):
        return batch.nbytes
    parts = batch if isinstance(batch, list) else (batch if hasattr(batch, "items") else vars(batch)).values()
    return sum(num_bytes(part) for part in parts if part is not None)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "data_loading.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
