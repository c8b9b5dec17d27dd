# SPDX-License-Identifier: Apache-2.0
"""A model and what its run has left behind in, its model card out: what it is, its scores, its use and its limits."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from unisegment.data.formats import FORMATS
from unisegment.hub.licenses import license_metadata, weights_license
from unisegment.hub.run_files import TASKS, RunFiles
from unisegment.hub.sharing import hub_data_set, shared_record
from unisegment.models.base import FAMILIES, Family
from unisegment.runs.usage import command_usage, python_usage

if TYPE_CHECKING:  # the code of models: seconds, which those need not wait whose data are refused
    from unisegment.models.image_processing import ImageProcessor
    from unisegment.models.pretrained_model import SegmentationPreTrainedModel

PICTURE = "prediction.png"
"""Name of the picture beside the card."""


class _Score(NamedTuple):
    """A score of `metrics.json`."""

    task: str
    name: str
    metric: str
    """What the Hub calls it, or would."""


_SCORES = {
    "pq": _Score("panoptic", "panoptic quality (PQ)", "pq"),
    "sq": _Score("panoptic", "segmentation quality (SQ)", "sq"),
    "rq": _Score("panoptic", "recognition quality (RQ)", "rq"),
    "pq_things": _Score("panoptic", "PQ of things", "pq_things"),
    "pq_stuff": _Score("panoptic", "PQ of stuff", "pq_stuff"),
    "mask_ap": _Score("instance", "mask AP", "mask_ap"),
    "miou": _Score("semantic", "mean IoU", "mean_iou"),
}
_JOINERS = "\u200c\u200d"
"""Signs that are not seen and belong to words of some languages."""


def model_card(
    repo_id: str,
    run: RunFiles,
    model: "SegmentationPreTrainedModel",
    processor: "ImageProcessor",
    *,
    why_not_stock: str | None = None,
    license: str | None = None,
) -> ModelCard:
    """Write the card of a model.

    Args:
        repo_id: Where it will be: `user/name`.
        run: What there is to tell.
        model: The model.
        processor: Its image processor.
        why_not_stock: Why the repository does not have transformers' own layout; None when it has.
        license: Licence of the weights, where those that they come from leave the choice.

    Raises:
        ValueError: When they do not leave the choice.
    """
    family = FAMILIES[model.config.model_type]
    base_weights = [shared_record(base) for base in model.config.base_weights or []]
    license = weights_license(base_weights, license)
    metrics = run.metrics or {}
    tasks = [task for task in TASKS if processor.why_not(task) is None]
    task = metrics.get("task") or tasks[-1]
    keys = sorted(_SCORES, key=lambda key: _SCORES[key].task != task)
    scores = {key: metrics[key] for key in keys if metrics.get(key) is not None}
    evaluated = [task for task in TASKS if any(_SCORES[key].task == task for key in scores)]
    data_set = hub_data_set(run.recipe)
    data = ModelCardData(
        **license_metadata(license),
        library_name="unisegment" if why_not_stock else "transformers",
        pipeline_tag="image-segmentation",
        tags=["unisegment", family.name.lower(), *(f"{task}-segmentation" for task in evaluated or tasks)],
        datasets=[data_set] if data_set else None,
        base_model=_hub_names(base["name"] for base in base_weights),
        model_name=repo_id.split("/")[-1],
        eval_results=_eval_results(scores, run.recipe) or None,
    )
    sections = {
        "Labels": _labels(model.config.id2label, processor.stuff_label_ids),
        "Use": _use(repo_id, family, why_not_stock, task, tasks),
        "Data and training": _training(run, base_weights),
        "Scores": _scores(scores, run),
        "Limits": _limits(evaluated, tasks, run, processor),
        "Licence of the weights": _license(base_weights, license),
    }
    if run.recipe:
        sections["Make it again"] = _REPEAT
    body = [f"# {data.model_name}", _introduction(model, family, tasks, run)]
    if run.picture is not None:
        body.append(f"![An image, and what the model sees in it]({PICTURE})")
        body.append("*An image that it has not learned from, what it sees there, and the annotation.*")
    body += [f"## {title}\n\n{text}" for title, text in sections.items()]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n")


def plain(name: Any) -> str:
    """Return a name as Markdown that reads as the name, on one line, and leads nowhere."""
    text = _one_line(name)
    if re.search(r"://|www\.|@", text, re.IGNORECASE):  # which would become a link
        return code(text)
    text = re.sub(r"([\\`*_\[\]|~#$>!])", r"\\\1", text)
    text = re.sub(r"^([-+=]|\d+(?=[.)]))", r"\\\1" if text[:1] in "-+=" else r"\1\\", text)  # else a list or a title
    return text.replace("&", "&amp;").replace("<", "&lt;")


def code(name: Any) -> str:
    """Return a name as code in Markdown, on one line, whatever backticks are in it."""
    text = _one_line(name)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if len(fence) > 1 or not text else f"`{text}`"


def _one_line(name: Any) -> str:
    """Return a text without line breaks and without what is not seen, such as signs that turn the direction."""
    kept = (
        sign
        for sign in " ".join(str(name).split())
        if unicodedata.category(sign) not in ("Cc", "Cf", "Cs") or sign in _JOINERS
    )
    return "".join(kept)


def _hub_names(names: Iterable[str]) -> list[str] | None:
    return [name for name in names if "/" in name] or None  # of all others no folder is left


def _data_name(recipe: dict[str, Any] | None) -> str:
    data = (recipe or {}).get("data", {})
    known = FORMATS.get(data.get("format", ""))
    return (known and known.data_set) or hub_data_set(recipe) or data.get("root", "unknown")


def _eval_results(scores: Mapping[str, float], recipe: dict[str, Any] | None) -> list[EvalResult]:
    name = _data_name(recipe)
    return [
        EvalResult(
            task_type="image-segmentation",
            task_name=f"{_SCORES[key].task.capitalize()} segmentation",
            dataset_type=hub_data_set(recipe) or re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "unknown",
            dataset_name=name,
            # The Hub groups results by data set; each task is scored by an annotation of its own.
            dataset_config=_SCORES[key].task,
            dataset_split="val",
            metric_type=_SCORES[key].metric,
            metric_name=_SCORES[key].name,
            metric_value=value,
        )
        for key, value in scores.items()
    ]


def _introduction(model: "SegmentationPreTrainedModel", family: Family, tasks: list[str], run: RunFiles) -> str:
    article = "An" if family.name[0] in "AEIOU" else "A"
    parts = ", ".join(plain(part) for part in family.describe(model.config))
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6
    learned = f", trained on {plain(_data_name(run.recipe))}" if run.recipe else ""
    use = f"{' and '.join(tasks).capitalize()} image segmentation."
    if len(tasks) == len(TASKS):
        use = (
            "Universal image segmentation: one set of weights answers what is where (semantic), which object "
            "(instance), and both at once (panoptic)."
        )
    return (
        f"{use} {article} [{family.name}]({family.source}) with {parts} and {millions:.1f} "
        f"million weights{learned}, written by unisegment {version('unisegment')}."
    )


def _labels(id2label: Mapping[int, str], stuff: Iterable[int] | None) -> str:
    def listed(labels: Iterable[int]) -> str:
        return " · ".join(f"{label} {plain(id2label[label])}" for label in labels) or "none"

    if stuff is None:
        return f"Things or stuff, which is not known ({len(id2label)}): {listed(sorted(id2label))}"
    things = sorted(set(id2label) - set(stuff))
    return f"Things ({len(things)}): {listed(things)}\n\nStuff ({len(id2label) - len(things)}): {listed(stuff)}"


def _use(repo_id: str, family: Family, why_not_stock: str | None, task: str, tasks: list[str]) -> str:
    others = " and ".join(f"`result.{other}`" for other in tasks if other != task)
    others = f"\n\n{others} come from the same forward pass." if others else ""
    ours = f"""\
```bash
{command_usage(repo_id)}
```

```python
{python_usage(repo_id, task)}```{others}"""
    if why_not_stock:
        return (
            f"With unisegment; after `import unisegment`, transformers' Auto classes and pipeline open it, too. No "
            f"code is downloaded.\n\n{ours}\n\nPlain transformers cannot open it: {plain(why_not_stock)}"
        )
    theirs = f"""\
```python
from transformers import pipeline

segmenter = pipeline("image-segmentation", model="{repo_id}")
for segment in segmenter("photo.jpg", subtask="{task}"):
    print(segment["label"], segment["score"])
```"""
    return (
        f"With unisegment:\n\n{ours}\n\nWith transformers alone, as its {family.name}, which takes stuff for things, "
        f"so that there may be several segments of it:\n\n{theirs}"
    )


def _training(run: RunFiles, base_weights: list[dict[str, str]]) -> str:
    if run.recipe is None:
        return "Not recorded."
    data, optim, schedule = (run.recipe[section] for section in ("data", "optim", "schedule"))
    precision = run.recipe["run"]["precision"]
    start = run.recipe["model"]["pretrained"] or ", ".join(base["name"] for base in base_weights) or "random weights"
    known = FORMATS.get(data["format"])
    summary = f" ({plain(known.summary)})" if known else ""
    lines = [f"data: {plain(_data_name(run.recipe))}, read as {code(data['format'])}{summary}"]
    if run.metrics:
        hours = run.metrics["train_seconds"] / 3600
        lines.append(f"{run.metrics['step']:,} of {schedule['max_steps']:,} steps, in {hours:.3g} hours")
    else:
        lines.append(f"{schedule['max_steps']:,} steps")
    lines += [
        f"{optim['batch_size']} images in a step, learning rate {optim['lr']:g}, schedule {code(schedule['name'])}",
        f"precision: {'float32' if precision == 'no' else plain(precision)}",
        f"started from {plain(start)}",
    ]
    return "\n".join(f"* {line}" for line in lines)


def _scores(scores: Mapping[str, float], run: RunFiles) -> str:
    if not scores or run.metrics is None:
        return "Not evaluated."
    rows = [f"| {_SCORES[key].task} | {_SCORES[key].name} | {value:.3f} |" for key, value in scores.items()]
    scored_on = f"On {run.metrics['images']:,} held-out images of {plain(_data_name(run.recipe))}, from 0 to 1"
    left_out = len(run.metrics.get("unreadable_images") or [])
    if left_out:
        scored_on += f"; {left_out} images of the data set could not be read and were left out"
    return "\n".join([f"{scored_on}:", "", "| task | score | value |", "|---|---|---|", *rows])


def _limits(evaluated: list[str], tasks: list[str], run: RunFiles, processor: "ImageProcessor") -> str:
    size = processor.size
    if "height" in size:
        pixels = f"{size['height']} × {size['width']} pixels"
    elif "max_height" in size:
        pixels = f"at most {size['max_height']} × {size['max_width']} pixels"
    else:
        pixels = f"a shorter side of {size['shortest_edge']} pixels"
        pixels += f" and a longer one of at most {size['longest_edge']}" if "longest_edge" in size else ""
    lines = [
        "It knows the labels above and no others: what is none of them is left out, or taken for one of them.",
        f"Images are resized to {pixels}: what is small then is easily missed.",
        "Nothing is known about images of another kind than those it learned from, about fairness, or about safety.",
    ]
    if len(tasks) < len(TASKS):
        lines.append(f"It gives {' and '.join(tasks)} results only.")
    missing = [task for task in tasks if task not in evaluated]
    if missing and run.metrics:
        lines.append(f"Its {' and '.join(missing)} results have not been evaluated.")
    if processor.stuff_label_ids is None and "panoptic" in tasks:
        lines.append("Which labels are stuff is not known: panoptic results take all for things.")
    return "\n".join(f"* {line}" for line in lines)


def _license(base_weights: list[dict[str, str]], license: str | None) -> str:
    lines = [f"{code(license)}." if license else "Nobody has said which: ask the author before you use them."]
    if base_weights:
        lines += ["", "They come from"]
        lines += [f"* {plain(base['name'])}, licence {plain(base['license'])}" for base in base_weights]
    if license is not None and re.search(r"-nc\b", license):
        lines += ["", "This licence does not allow commercial use."]
    return "\n".join(lines)


_REPEAT = """\
`recipe.yaml` here has every key of the run. Of paths and addresses only the last part is left, so say where the data
is, and likewise `model.pretrained` and `model.config.backbone` where they name a file or folder:

```bash
unisegment train recipe.yaml data.root=FOLDER run.output_dir=runs/again
```"""
