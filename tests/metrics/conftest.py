# SPDX-License-Identifier: Apache-2.0
"""Panoptic quality by the published rules, one mask at a time, and images and files to evaluate with it."""

import json
import math
from functools import partial

import numpy as np
import pytest
from PIL import Image

HEIGHT, WIDTH = 13, 19


@pytest.fixture(scope="session")
def slow_panoptic_quality():
    """Return what panoptic_quality_from_files should, from images and a dict: category id -> is it a thing."""

    def evaluate(images, is_thing):
        scores = {category_id: [0, 0, 0, 0.0] for category_id in is_thing}
        for image in images:
            evaluate_image(scores, *image)
        return average(scores, is_thing)

    return evaluate


@pytest.fixture(scope="session")
def random_panoptic_image():
    """Return a function that makes map and infos of a target, and of a prediction that resembles it."""
    return random_image


@pytest.fixture
def write_data_set(tmp_path):
    """Write a ground truth and predictions in COCO's format; return the arguments of panoptic_quality_from_files."""
    return partial(write, tmp_path)


def evaluate_image(scores, target_map, target_infos, prediction_map, predicted_infos):
    """Add one image to scores: category id -> [true positives, false positives, false negatives, sum of IoU]."""
    is_void = target_map == 0
    found, used, crowd_of_category = set(), set(), {}
    for true in target_infos:
        inside_true = target_map == true["id"]
        if true["iscrowd"]:
            crowd_of_category[true["category_id"]] = inside_true
            continue
        for predicted in predicted_infos:
            if predicted["category_id"] != true["category_id"]:
                continue
            inside_predicted = prediction_map == predicted["id"]
            intersection = (inside_true & inside_predicted).sum()
            if intersection == 0:
                continue
            union = inside_predicted.sum() + true["area"] - intersection - (inside_predicted & is_void).sum()
            if intersection / union > 0.5:
                scores[true["category_id"]][0] += 1
                scores[true["category_id"]][3] += intersection / union
                found.add(true["id"])
                used.add(predicted["id"])
    for true in target_infos:
        if not true["iscrowd"] and true["id"] not in found:
            scores[true["category_id"]][2] += 1
    for predicted in predicted_infos:
        inside = prediction_map == predicted["id"]
        ignored = (inside & is_void).sum()
        if predicted["category_id"] in crowd_of_category:
            ignored += (inside & crowd_of_category[predicted["category_id"]]).sum()
        if predicted["id"] not in used and ignored / inside.sum() <= 0.5:
            scores[predicted["category_id"]][1] += 1


def average(scores, is_thing):
    per_class, results = {}, {}
    for category_id, (true_positives, false_positives, false_negatives, iou) in scores.items():
        half_errors = 0.5 * false_positives + 0.5 * false_negatives
        num = true_positives + half_errors
        per_class[category_id] = {
            "pq": iou / num if num else 0.0,
            "sq": iou / true_positives if true_positives else 0.0,
            "rq": true_positives / num if num else 0.0,
        }
    for group, wanted in (("all", (True, False)), ("things", (True,)), ("stuff", (False,))):
        chosen = [c for c, values in scores.items() if sum(values[:3]) > 0 and is_thing[c] in wanted]
        results[group] = {
            name: sum(per_class[c][name] for c in chosen) / len(chosen) if chosen else math.nan
            for name in ("pq", "sq", "rq")
        } | {"n": len(chosen)}
    return results | {"per_class": per_class}


def random_image(rng, category_ids, max_id):
    num = int(rng.integers(2, 19))
    blocks = rng.integers(0, num, (HEIGHT // 3 + 1, WIDTH // 5 + 1))
    target_idx = blocks.repeat(3, axis=0).repeat(5, axis=1)[:HEIGHT, :WIDTH]
    predicted_idx = np.where(rng.random((HEIGHT, WIDTH)) < rng.choice([0.05, 0.3, 0.5]), rng.integers(num), target_idx)
    target_categories = rng.choice(category_ids, num)
    predicted_categories = np.where(rng.random(num) < 0.8, target_categories, rng.choice(category_ids, num))
    # Number 0 is void.
    target_ids = np.append(0, rng.choice(max_id, num - 1, replace=False) + 1)
    predicted_ids = np.append(0, rng.choice(max_id, num - 1, replace=False) + 1)
    target_infos = [
        {
            "id": int(target_ids[idx]),
            "category_id": int(target_categories[idx]),
            "iscrowd": int(rng.random() < 0.3),
            "area": int((target_idx == idx).sum() + rng.choice([0, 0, 2])),
        }
        for idx in rng.permutation(np.arange(1, num))
        if rng.random() < 0.9
    ]
    predicted_infos = [
        {"id": int(predicted_ids[idx]), "category_id": int(predicted_categories[idx])}
        for idx in rng.permutation(np.arange(1, num))
        if (predicted_idx == idx).any()
    ]
    maps = target_ids[target_idx].astype(np.int32), predicted_ids[predicted_idx].astype(np.int32)
    return maps[0], target_infos, maps[1], predicted_infos


def write_png(path, ids):
    red_green_blue = [ids % 256, ids // 256 % 256, ids // 65536]
    Image.fromarray(np.stack(red_green_blue, axis=-1).astype(np.uint8)).save(path)


def write(folder, images, categories):
    truth = {"categories": categories, "annotations": []}
    predictions = {"annotations": []}
    for kind in ("gt", "pred"):
        (folder / kind).mkdir()
    for number, (target_map, target_infos, prediction_map, predicted_infos) in enumerate(images):
        write_png(folder / "gt" / f"{number}.png", target_map)
        write_png(folder / "pred" / f"image_{number}.png", prediction_map)
        truth["annotations"].append({"image_id": number, "file_name": f"{number}.png", "segments_info": target_infos})
        predictions["annotations"].insert(
            0, {"image_id": number, "file_name": f"image_{number}.png", "segments_info": predicted_infos}
        )
    predictions["annotations"].append({"image_id": -1, "file_name": "of another data set", "segments_info": []})
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "pred.json").write_text(json.dumps(predictions))
    return folder / "gt.json", folder / "gt", folder / "pred.json", folder / "pred"
