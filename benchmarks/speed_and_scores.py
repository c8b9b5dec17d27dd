# SPDX-License-Identifier: Apache-2.0
"""What makes a trained model faster in use, and what it costs: each knob's images per second beside its scores.

Scores and panoptic maps are those of a run of the quickstart recipe on what it held out. Times are of the network
alone, and of the whole way from files to panoptic maps; all variants take turns on the same images, and the median
counts. A ResNet-50 with random weights says what the same knobs are worth in a large model, whose parts have other
shares. int8 is measured where torchao is installed. Prints the numbers and saves them:

    unisegment train quickstart
    python benchmarks/speed_and_scores.py runs/quickstart

`--parts` measures some of it anew, and keeps the rest of the file.
"""

import argparse
import copy
import io
import json
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from number_formats import equal_share, panoptic_maps

from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.inference.evaluation import evaluate
from unisegment.inference.images import load_batches
from unisegment.inference.predictor import Predictor, open_predictor
from unisegment.runs.recipe import load_recipe
from unisegment.training.assembly import open_samples

RESULTS = Path(__file__).parent / "results" / "speed_and_scores.json"
PLAIN, INT8 = "as trained", ("int8 weights", "int8 weights and activations")
PARTS = ("scores", "times", "R50")


def main() -> None:
    """Measure, print and save."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    report = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    report |= {
        "what": "speed of a model of the quickstart recipe against its scores",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "bfloat16 of this processor": "native" if torch.cpu._is_avx512_bf16_supported() else "emulated",
        "threads of the times": arguments.threads,
    }
    if {"scores", "times"} & {*arguments.parts}:
        _, samples = open_samples(load_recipe(arguments.run / "recipe.yaml").data)
        rows = variants(arguments.run)
        for part, measure in (("scores", scores), ("times", times)):
            if part in arguments.parts:
                for name, found in measure(rows, samples, arguments).items():
                    report.setdefault("rows", {}).setdefault(name, {}).update(found)
    if "R50" in arguments.parts:
        report["R50, seconds"] = times_of_r50(arguments.rounds)
    print(json.dumps(report, indent=2))
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def variants(run: Path) -> dict[str, Predictor]:
    """Return a predictor for each way to use the model of a run."""
    whole = open_predictor(run)
    config, edges = whole.model.config, whole.processor.size
    found = {PLAIN: whole}
    for layers in range(config.decoder_layers - 1, 1, -1):
        found[f"decoder_layers={layers}"] = open_predictor(run, decoder_layers=layers)
    for percent in (90, 75, 50):
        size = {name: edge * percent // 100 for name, edge in edges.items()}
        found[f"size={size['shortest_edge']}"] = open_predictor(run, size=size)
    changes = [("encoder_layers", config.encoder_layers - 1)]
    changes += [("num_queries", config.num_queries * percent // 100) for percent in (80, 60)]
    for key, value in changes:
        found[f"{key}={value}"] = Predictor(changed(run, **{key: value}), whole.processor)
    found["dtype=bfloat16"] = open_predictor(run, dtype="bfloat16")
    for name in INT8 if find_spec("torchao") else ():
        found[name] = Predictor(quantised(copy.deepcopy(whole.model), name), whole.processor)
    return found


def changed(run: Path, **keys: int) -> Any:
    """Return the model of a run with fewer of what its config counts."""
    model = UniSegmentForUniversalSegmentation.from_pretrained(run / "checkpoint", **keys, ignore_mismatched_sizes=True)
    return model.eval()


def quantised(model: Any, name: str) -> Any:
    """Return a model whose linear layers have weights of 8 bits."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_

    quantize_(model, Int8WeightOnlyConfig() if name == INT8[0] else Int8DynamicActivationInt8WeightConfig())
    return model


def scores(rows: dict[str, Predictor], samples: Any, arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the scores of each variant, and shares of pixels that are as in the plain one."""
    expected, found = panoptic_maps(rows[PLAIN], samples), {}
    for name, predictor in rows.items():
        shares = [equal_share(*pair) for pair in zip(expected, panoptic_maps(predictor, samples), strict=True)]
        result = evaluate(predictor, samples, batch_size=4, boundaries=False)
        found[name] = {
            "PQ": round(result["panoptic"]["all"]["pq"], 4),
            "mask AP": round(result["instance"]["ap"], 4),
            "mIoU": round(result["semantic"]["miou"], 4),
            "pixels as trained": round(sum(shares) / len(shares), 5),
            "in the worst image": round(min(shares), 5),
            "weights MiB": round(size_of(predictor.model), 2),
        }
        print(name, found[name], flush=True)
    return found


def times(rows: dict[str, Predictor], samples: Any, arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return images per second of each variant: of the network alone, and from files to panoptic maps."""
    batches = {
        name: [*load_batches(samples, predictor.processor, range(arguments.images), batch_size=1)]
        for name, predictor in rows.items()
    }

    def network(name: str) -> None:
        for batch in batches[name]:
            rows[name].forward(batch)

    def whole(name: str) -> None:
        for batch, outputs in rows[name].stream(samples, range(arguments.images)):
            rows[name].panoptic(batch, outputs)

    ways = {"network images/s": network, "whole images/s": whole}
    seconds = alternating({(name, way): (run, name) for way, run in ways.items() for name in rows}, arguments.rounds)
    return {name: {way: round(arguments.images / seconds[name, way], 1) for way in ways} for name in rows}


def times_of_r50(rounds: int) -> dict[str, float]:
    """Return seconds of a network with a ResNet-50, of random weights, for an image of 512×512."""

    def model(**keys: Any) -> Any:
        return UniSegmentForUniversalSegmentation(UniSegmentConfig(backbone_config={"model_type": "resnet"}, **keys))

    image = torch.randn(1, 3, 512, 512)
    plain = model().eval()
    rows: dict[str, tuple[Any, Any]] = {PLAIN: (plain, image)}
    for keys in ({"decoder_layers": 7}, {"decoder_layers": 4}, {"encoder_layers": 3}, {"num_queries": 50}):
        rows[", ".join(f"{key}={value}" for key, value in keys.items())] = (model(**keys).eval(), image)
    rows |= {f"size={size}": (plain, image[..., :size, :size]) for size in (448, 384, 256)}
    rows["dtype=bfloat16"] = (copy.deepcopy(plain).bfloat16(), image)
    rows |= {name: (quantised(copy.deepcopy(plain), name), image) for name in (INT8 if find_spec("torchao") else ())}

    def forward(name: str) -> None:
        network, pixels = rows[name]
        with torch.no_grad():
            network(pixels)

    seconds = alternating({name: (forward, name) for name in rows}, rounds)
    return {name: round(value, 4) for name, value in seconds.items()}


def alternating(runs: dict[Any, tuple[Callable[[str], None], str]], rounds: int) -> dict[Any, float]:
    """Return the median seconds of each run; they take turns, forwards and backwards, after one that does not count."""
    seconds: dict[Any, list[float]] = {key: [] for key in runs}
    for order in islice(cycle((list(runs), list(runs)[::-1])), rounds + 1):
        for key in order:
            run, name = runs[key]
            start = time.perf_counter()
            run(name)
            seconds[key].append(time.perf_counter() - start)
    return {key: median(values[1:]) for key, values in seconds.items()}


def size_of(model: Any) -> float:
    """Return how many MiB the weights have as a file."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.tell() / 2**20


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run in float32")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--images", type=int, default=25, help="images of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
