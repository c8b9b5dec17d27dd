# SPDX-License-Identifier: Apache-2.0
"""A checkpoint in, the scores of transformers' own Mask2Former and image processor on its weights, beside ours, out.

The checkpoint of a run is saved in transformers' stock layout first, so that both read the very same files. Each then
prepares the images, runs its own network and makes panoptic, instance and semantic predictions its own way, with the
same thresholds and the same labels of stuff; one evaluation scores both.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessorPil
from transformers.configuration_utils import PreTrainedConfig

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.inference.evaluation import evaluate
from unisegment.inference.images import Batch
from unisegment.inference.labels import match_data_set
from unisegment.inference.predictor import Predictor, open_predictor, original_sizes
from unisegment.inference.report import headlines
from unisegment.models.checkpoints import convert
from unisegment.runs.data_opening import open_evaluation_data
from unisegment.runs.recipe import load_recipe
from unisegment.structures import TASKS, InstancePrediction, PanopticPrediction


def score_run(run: Path, data: str | None, limit: int | None, output: Path) -> None:
    """Evaluate a training run with both, and print and save the scores and what ours are above the others.

    Args:
        run: What it left behind: checkpoint/ and recipe.yaml.
        data: Folder of the data set, instead of the recipe's.
        limit: Most images that are scored.
        output: The file to write.
    """
    recipe = run / "recipe.yaml"
    samples, settings = open_evaluation_data(recipe, data, "coco_panoptic", "val")
    with tempfile.TemporaryDirectory() as folder:
        convert(str(run / "checkpoint"), folder, to="transformers")
        scores = evaluate_both(
            folder,
            samples,
            opening=settings.of_predictor,
            limit=limit,
            tasks=settings.tasks,
            batch_size=settings.batch_size,
        )
    _print_scores(scores)
    read = load_recipe(recipe)
    result = {
        "what": "our inference beside transformers' own on the same weights, saved in its layout",
        "recipe": read.data.format,
        "steps": read.schedule.max_steps,
        "images": min(len(samples), limit or len(samples)),
        "panoptic threshold of both": settings.panoptic_threshold,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "scores": {name: scores[name] for name in ("unisegment", "transformers")},
        "gain": scores["gain"],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n")


def _print_scores(scores: Mapping[str, Mapping[str, float | None]]) -> None:
    """Print the scores side by side, without those of which there is nothing to evaluate."""
    print(f"{'':14}" + "".join(f"{name:>14}" for name in scores))
    for name, gain in scores["gain"].items():
        if gain is not None:
            print(f"{name:14}" + "".join(f"{of_one[name]:14.3f}" for of_one in scores.values()))


def evaluate_both(
    checkpoint: str | os.PathLike[str],
    samples: AnnotatedImages,
    *,
    opening: Mapping[str, Any],
    limit: int | None = None,
    **settings: Any,
) -> dict[str, dict[str, float | None]]:
    """Evaluate a checkpoint with our code and with transformers'.

    Args:
        checkpoint: As in `open_predictor`.
        samples: Annotated images.
        opening: Keywords of `open_predictor`.
        limit: Most images that are scored.
        settings: Keywords of `unisegment.inference.evaluate`.

    Returns:
        The scores that stand for the whole, by name: of "unisegment", of "transformers", and how much ours are above
        theirs ("gain").

    Raises:
        ValueError: When transformers' model cannot be what ours is; and as `open_predictor` does.
    """
    ours, matched = match_data_set(open_predictor(checkpoint, **opening), samples, limit=limit)
    predictors = {"unisegment": ours, "transformers": open_stock_predictor(ours, checkpoint)}
    scores = {
        name: headlines(evaluate(predictor, matched, boundaries=True, **settings))
        for name, predictor in predictors.items()
    }
    pairs = {name: (score, scores["transformers"].get(name)) for name, score in scores["unisegment"].items()}
    return scores | {"gain": {name: None if None in pair else pair[0] - pair[1] for name, pair in pairs.items()}}


@dataclass(frozen=True)
class StockPredictor(Predictor):
    """transformers' model, preparation and post-processing, told the same sizes, thresholds and stuff as ours.

    Args:
        stuff: The labels that are stuff, which its processor does not know.
    """

    stuff: frozenset[int] = frozenset()

    @property
    def stuff_label_ids(self) -> frozenset[int]:
        """The labels that are stuff."""
        return self.stuff

    @property
    def tasks(self) -> tuple[str, ...]:
        """Which results its processor reads."""
        return TASKS

    def panoptic(self, batch: Batch, outputs: Any) -> list[PanopticPrediction]:
        """Return which segment each pixel belongs to, with the ids that are good for it.

        Its processor gives one id to several segments when things follow fused stuff, and says -1 for an empty result.
        As in a file of it, the last segment of an id counts, for all pixels of the id.
        """
        results = self.processor.post_process_panoptic_segmentation(
            outputs,
            threshold=self.panoptic_threshold,
            label_ids_to_fuse=set(self.stuff),
            target_sizes=original_sizes(batch),
        )
        return [_panoptic(result) for result in results]

    def instance(self, batch: Batch, outputs: Any, threshold: float = 0.0) -> list[InstancePrediction]:
        """Return the objects that are no stuff, the best first."""
        results = self.processor.post_process_instance_segmentation(
            outputs, threshold=threshold, target_sizes=original_sizes(batch), return_binary_maps=True
        )
        return [_instance(result, self.thing_label_ids) for result in results]


def open_stock_predictor(ours: Predictor, source: str | os.PathLike[str]) -> StockPredictor:
    """Open a checkpoint with transformers' own classes.

    Args:
        ours: What we made of the checkpoint.
        source: The checkpoint. A stock one is opened as it is, any other one is saved in stock layout first.

    Raises:
        ValueError: When transformers' model cannot be what ours is.
    """
    if _is_stock(source):
        model, processor = _open(source, ours.processor.size)
    else:
        with tempfile.TemporaryDirectory() as folder:
            ours.model.save_pretrained(folder, format="transformers")
            ours.processor.save_pretrained(folder, format="transformers")
            model, processor = _open(folder, ours.processor.size)
    return StockPredictor(
        model.to(ours.model.device), processor, ours.panoptic_threshold, ours.top_k, stuff=ours.stuff_label_ids
    )


def _open(source: str | os.PathLike[str], size: dict[str, int]) -> tuple[Any, Any]:
    # The other class of processors needs torchvision.
    processor = Mask2FormerImageProcessorPil.from_pretrained(source, size=size)
    return Mask2FormerForUniversalSegmentation.from_pretrained(source, dtype=torch.float32).eval(), processor


def _is_stock(source: str | os.PathLike[str]) -> bool:
    if os.path.isfile(source):
        return False
    content, _ = PreTrainedConfig.get_config_dict(source)
    return content.get("model_type") == "mask2former"


def _panoptic(result: Mapping[str, Any]) -> PanopticPrediction:
    segmentation = result["segmentation"].to(torch.int32).clamp(min=0)
    present = set(segmentation.unique().tolist())
    infos = {info["id"]: info for info in result["segments_info"] if info["id"] in present}
    listed = torch.tensor([0, *infos], dtype=torch.int32, device=segmentation.device)
    segmentation = torch.where(torch.isin(segmentation, listed), segmentation, 0)
    return PanopticPrediction(segmentation, list(infos.values()))


def _instance(result: Mapping[str, Any], things: frozenset[int]) -> InstancePrediction:
    infos, masks = result["segments_info"], result["segmentation"] > 0.5
    if not infos:  # then it is a map of nothing
        return InstancePrediction(torch.zeros(masks.shape, dtype=torch.int32), [], masks.new_zeros(0, *masks.shape))
    order = [place for place, info in enumerate(infos) if info["label_id"] in things]
    order.sort(key=lambda place: -infos[place]["score"])
    masks, infos = masks[order], [infos[place] | {"id": rank} for rank, place in enumerate(order, start=1)]
    segmentation = torch.zeros(masks.shape[1:], dtype=torch.int32, device=masks.device)
    for info, mask in reversed(list(zip(infos, masks, strict=True))):
        segmentation.masked_fill_(mask, info["id"])
    return InstancePrediction(segmentation, infos, masks)
