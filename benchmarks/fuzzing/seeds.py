# SPDX-License-Identifier: Apache-2.0
"""An empty folder in, whole small files of every kind in it out: those that the campaign damages."""

import io
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import torch
from fuzzing.exports import write_exports
from PIL import Image
from pycocotools import mask as coco_masks
from safetensors.torch import load_file
from transformers import PreTrainedModel

from unisegment import UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.cli import app
from unisegment.data.formats.synthetic import write_synthetic
from unisegment.models.checkpoints import convert
from unisegment.training import fit
from unisegment.training.state_files import read_numbers

HEIGHT, WIDTH = 24, 32
RECIPE = """\
data:
  root: scenes
  format: synthetic
  num_train: 2
  num_val: 1
  workers: 0
  shortest_edge: 32
  longest_edge: 40
  range: [0, 65535]
model:
  config:
    backbone_config:
      model_type: resnet
      embedding_size: 4
      hidden_sizes: [4, 4, 8, 8]
      depths: [1, 1, 1, 1]
      layer_type: basic
      out_features: [stage1, stage2, stage3, stage4]
    feature_size: 32
    mask_feature_size: 8
    hidden_dim: 8
    encoder_feedforward_dim: 8
    dim_feedforward: 8
    encoder_layers: 1
    decoder_layers: 2
    num_attention_heads: 2
    num_queries: 3
    train_num_points: 16
optim:
  lr: 1e-3
  batch_size: 2
  clip_norm: 1.0
  ema_decay: 0.9
schedule:
  max_steps: 1
  milestones: [0.5, 0.9]
evaluation:
  pictures: 0
run:
  output_dir: run
  threads: 1
  checkpoint_every: 1
  best_metric: pq
"""


def make_seeds(folder: Path) -> None:
    """Write recipe, scenes, a run with its state and its model, that model in all layouts, and annotated images."""
    torch.manual_seed(0)
    os.chdir(folder)
    Path("recipe.yaml").write_text(RECIPE)
    _small_scenes(folder)
    fit("recipe.yaml")
    shutil.copytree("run", "old/run")
    _make_old(Path("old/run/checkpoints/step-000001"))
    for name in ("original.pkl", "original.pth", "original.safetensors"):
        convert("run/checkpoint", name)
    convert("run/checkpoint", "stock", "transformers")
    model = UniSegmentForUniversalSegmentation.from_pretrained("run/checkpoint")
    shutil.copytree("run/checkpoint", "sharded")
    Path("sharded/model.safetensors").unlink()
    PreTrainedModel.save_pretrained(model, "sharded", max_shard_size="40KB")
    shutil.copytree("run/checkpoint", "pickled")
    Path("pickled/model.safetensors").unlink()
    torch.save(model.state_dict(), "pickled/pytorch_model.bin")
    UniSegmentImageProcessor(num_labels=8, stuff_label_ids=[1], do_reduce_labels=True).save_pretrained("processor")
    Path("labels.json").write_text(json.dumps({number: f"c{number}" for number in range(8)}))
    _write_instances(Path("instances"))
    app(["predict", "run/checkpoint", "instances/images", "predicted"], standalone_mode=False)
    # A backbone whose weights lie elsewhere: those of the checkpoint are complete.
    shutil.copytree("run/checkpoint", "named")
    config = json.loads(Path("named/config.json").read_text())
    config |= {"backbone": "http://127.0.0.1:9/r50.pth", "use_pretrained_backbone": True}
    Path("named/config.json").write_text(json.dumps(config))
    _write_label_maps(Path("maps"))
    write_exports(Path("exports"))
    _write_images(Path("images"))


def _make_old(state: Path) -> None:
    """Turn a state into what release 0.1 would have written: pickles of accelerate's."""
    numbers = read_numbers(state)
    steps = {"base_lrs": [0.1], "last_epoch": 1, "_step_count": 2, "_last_lr": [0.1], "lr_lambdas": [None]}
    average = {"steps": numbers.average_steps, "average": load_file(state / "average.safetensors")}
    for number, part in enumerate((steps, vars(numbers.progress), {"problems": []}, average)):
        torch.save(part, state / f"custom_checkpoint_{number}.pkl")
    generators = {"random_state": random.getstate(), "numpy_random_seed": np.random.get_state()}
    torch.save({"step": 0, **generators, "torch_manual_seed": torch.get_rng_state()}, state / "random_states_0.pkl")
    for name in ("progress.json", "average.safetensors"):
        (state / name).unlink()


def _small_scenes(folder: Path) -> None:
    """Make the scenes a quarter of their height and width."""
    write_synthetic(folder / "scenes", 2, 1, progress=False)
    for file in folder.glob("scenes/**/*.png"):
        with Image.open(file) as image:
            image.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST).save(file)
    for file in folder.glob("scenes/annotations/*.json"):
        content = json.loads(file.read_text())
        for image in content["images"]:
            image |= {"height": HEIGHT, "width": WIDTH}
        for annotation in content["annotations"]:
            with Image.open(file.with_suffix("") / annotation["file_name"]) as image:
                ids = set((np.asarray(image).astype(np.int64) @ [1, 256, 65536]).ravel().tolist())
            annotation["segments_info"] = [info for info in annotation["segments_info"] if info["id"] in ids]
        file.write_text(json.dumps(content))


def _pixels(seed: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, channels), dtype=np.uint8)


def _write_instances(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(_pixels(0)).save(folder / "images" / name)
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    mask[3:9, 4:20] = 1
    encoded = coco_masks.encode(mask)
    counts = {"size": [HEIGHT, WIDTH], "counts": [100, 50, HEIGHT * WIDTH - 150]}
    shapes = [
        [[1, 1, 8.5, 2, 9, 11]],
        [[0, 0, 31, 0, 31, 23, 0, 23], [5, 5, 9, 5, 9, 9]],
        {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()},
        counts,
    ]
    annotations = [
        {"id": number, "image_id": 1 + number % 2, "category_id": 1 + number % 3, "segmentation": shape}
        | {"area": 50.0, "bbox": [1, 1, 8, 10], "iscrowd": int(shape is counts)}
        for number, shape in enumerate(shapes, start=1)
    ]
    images = [
        {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}
        for number, name in enumerate(("a.png", "b.png"), start=1)
    ]
    categories = [{"id": number, "name": f"c{number}", "supercategory": "c"} for number in (1, 2, 3)]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "objects.json").write_text(json.dumps(annotations[:2]))  # of which a column is made: one kind of shape


def _write_label_maps(folder: Path) -> None:
    for part in ("images", "labels", "instances"):
        (folder / part / "val").mkdir(parents=True)
    Image.fromarray(_pixels(1)).save(folder / "images" / "val" / "a.png")
    Image.fromarray(_pixels(2, 1)[..., 0] % 3).save(folder / "labels" / "val" / "a.png")
    objects = (_pixels(3, 1)[..., 0] % 3).astype(np.uint16) * 1000 + 1
    Image.fromarray(objects).save(folder / "instances" / "val" / "a.png")
    categories = [{"id": number, "name": f"c{number}", "isthing": True, "color": [1, 2, 3]} for number in range(3)]
    (folder / "categories.json").write_text(json.dumps(categories))


def _write_images(folder: Path) -> None:
    folder.mkdir()
    image = Image.fromarray(_pixels(4))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    for ending in ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm"):
        image.save(folder / f"rgb.{ending}", **({"exif": exif} if ending in ("png", "jpg", "tif", "webp") else {}))
    Image.fromarray(_pixels(5, 4)).save(folder / "rgba.png")
    image.quantize(16).save(folder / "palette.png", transparency=3)
    image.quantize(16).save(folder / "palette.gif", save_all=True, append_images=[image.quantize(8)])
    Image.fromarray(_pixels(6, 1)[..., 0].astype(np.uint16) * 200).save(folder / "deep.png")
    image.convert("L").save(folder / "grey.tif", compression="tiff_lzw")
    image.convert("CMYK").save(folder / "cmyk.jpg", progressive=True)
    stream = io.BytesIO()
    image.convert("F").save(stream, "TIFF")
    (folder / "float.tif").write_bytes(stream.getvalue())
