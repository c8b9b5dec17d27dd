# SPDX-License-Identifier: Apache-2.0
"""One more format is one file and one line: a copy of the library gets both, and every command knows it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[3]
FILE = '''
"""A text file with a box for each image: `name x0 y0 x1 y1` in pixels, and its class."""

import torch

from unisegment.data.annotated_images import AnnotatedImages, SampleFiles, read_listed_image
from unisegment.data.formats.format import Format, Layout
from unisegment.structures import Category, Sample, SegmentationTarget


class Boxes(AnnotatedImages):
    def __init__(self, folder, lines):
        super().__init__([Category(1, "cow", True, (200, 0, 0)), Category(2, "dog", True, (0, 0, 200))])
        self.folder, self.lines = folder, lines

    def __len__(self):
        return len(self.lines)

    def __getitem__(self, index):
        name, label, *box = self.lines[index]
        x0, y0, x1, y1 = map(int, box)
        image = read_listed_image(self.folder / name, self.reading)
        mask = torch.zeros(1, *image.shape[:2], dtype=torch.bool)
        mask[0, y0:y1, x0:x1] = True
        target = SegmentationTarget(labels=torch.tensor([int(label)]), masks=mask)
        return Sample(image, name, str(self.folder / name), target=target)

    def files(self, index):
        return SampleFiles(self.folder / self.lines[index][0])


def _open(found, *, problems, void_ids=()):
    lines = found.parts["annotations"].read_text().splitlines()
    return Boxes(found.parts["images"], [line.split() for line in lines])


FORMATS = (
    Format(
        name="boxes",
        summary="boxes in a text file",
        layouts=[Layout(parts={"annotations": "{split}/boxes.txt", "images": "{split}"})],
        open=_open,
        tasks=("instance",),
        labels="the code",
    ),
)
'''
LINE = '    "boxes": "unisegment.data.formats.boxes",\n'
SCRIPT = """
import torch
from typer.testing import CliRunner

from unisegment import open_data_set
from unisegment.cli import app

torch.set_num_threads(1)


def run(*words):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (words, result.output, result.exception)
    return result.output


samples = open_data_set("data/mine", split="val")
assert [sample.target.masks.sum().item() for sample in samples] == [400], samples
assert "boxes" in run("evaluate", "--help")
assert "Checking as boxes." in run("check-data", "data/mine", "--pictures=0", "--workers=1")
small = {"backbone_config": "{model_type: resnet, embedding_size: 8, hidden_sizes: [8, 8, 8, 8], depths: [1, 1, 1, 1]}"}
small |= dict(feature_size=32, mask_feature_size=16, hidden_dim=32, encoder_layers=1, decoder_layers=2, num_queries=3)
run(
    "train", "data/mine", "schedule.max_steps=1", "run.threads=1", "data.workers=0", "evaluation.pictures=0",
    "run.checkpoint_every=0", "run.eval_every=0", *(f"model.config.{key}={value}" for key, value in small.items()),
)
assert "mask AP" in run("evaluate", "runs/mine", "data/mine")
"""


def test_one_file_and_one_line_add_a_format(tmp_path):
    shutil.copytree(ROOT / "unisegment", tmp_path / "unisegment")
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    registry = tmp_path / "unisegment/data/formats/__init__.py"
    before, after = registry.read_text("utf-8").split('    "synthetic": ')
    registry.write_text(f'{before}{LINE}    "synthetic": {after}', "utf-8")
    registry.with_name("boxes.py").write_text(FILE, "utf-8")
    for split, names in (("train", ("a.jpg", "b.jpg")), ("val", ("c.jpg",))):
        folder = tmp_path / "data/mine" / split
        folder.mkdir(parents=True)
        (folder / "boxes.txt").write_text("".join(f"{name} 1 5 7 25 27\n" for name in names))
        for number, name in enumerate(names):
            Image.fromarray(np.full((32, 48, 3), 40 * number + len(names), np.uint8)).save(folder / name)
    # A process of its own: this one has imported the library as it is.
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
