# SPDX-License-Identifier: Apache-2.0
"""Random predictions of all three kinds."""

import numpy as np
import torch

from unisegment.structures import InstancePrediction, PanopticPrediction, SemanticPrediction


def random_predictions(seed, size, things, num_labels):
    """Return a prediction for each task: rectangles, some pixels of them missing."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(size, np.int32)
    for number in range(1, 5):
        ids[rng.integers(0, 9) :, rng.integers(0, 9) * number :] = number
    present = np.unique(ids)
    renumbered = {old: new for new, old in enumerate(present[present > 0].tolist(), start=1)}
    ids = np.vectorize(lambda old: renumbered.get(old, 0))(ids).astype(np.int32)
    ids[:2] = 0
    infos = [
        {"id": int(number), "label_id": int(rng.integers(num_labels)), "score": float(rng.random())}
        for number in np.unique(ids[ids > 0])
    ]
    masks = rng.random((7, *size)) < 0.3
    masks[:, 0, 0], masks[:, -1, -1] = True, False
    objects = [
        {"id": number + 1, "label_id": int(rng.choice(things)), "score": float(score)}
        for number, score in enumerate(sorted(rng.random(7), reverse=True))
    ]
    return {
        "panoptic": PanopticPrediction(torch.from_numpy(ids), infos),
        "instance": InstancePrediction(torch.zeros(size, dtype=torch.int32), objects, torch.from_numpy(masks)),
        "semantic": SemanticPrediction(torch.from_numpy(rng.integers(0, num_labels, size)), []),
    }


def export_all(export, images, things):
    """Write random predictions of some images, as a run does; return the predictions by image id."""
    parts, predictions = [], {}
    for seed, image in enumerate(images):
        predictions[image.image_id] = random_predictions(seed, image.size, things, len(export.categories))
        chosen = {task: predictions[image.image_id][task] for task in export.tasks}
        parts.append({"name": image.file_name, **export.write(image, chosen)})
    export.finish(lambda: iter(parts))
    return predictions
