# SPDX-License-Identifier: Apache-2.0
"""transformers' own tests, run against our classes: what passes, what fails, and why that is meant.

The tests come from transformers' source distribution on PyPI, of the release that is installed: its ModelTesterMixin,
ConfigTester, ImageProcessingTestMixin and PostProcessSemanticSegmentationTestMixin. Nothing of it is kept here. The
reasons stand in docs/transformers.md; a failure without one, or a reason without a failure, ends this with code 1.

    pip install parameterized
    python benchmarks/transformers_tests.py                     # fetches the source distribution
    python benchmarks/transformers_tests.py transformers-5.24.0.tar.gz --only test_training
"""

import argparse
import functools
import importlib
import logging
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import unittest
import warnings
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
import transformers

import unisegment

PAGE = Path(__file__).parents[1] / "docs" / "transformers.md"
# What the tests import and the distribution does not have, with what takes its place.
MISSING = {
    "tests/__init__.py": "",
    "tests/exporters/test_export.py": "class ExportTesterMixin: pass\n",
    "tests/generation/test_utils.py": "class GenerationTesterMixin: pass\n",
    "tests/utils/test_configuration_utils.py": "config_common_kwargs = {}\n",  # for configs without sub-configs
    "utils/fetch_hub_objects_for_ci.py": "def url_to_local_path(url): return url\n",
}
SIZES = {
    "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 3,
    "num_attention_heads": 2, "num_queries": 7, "dim_feedforward": 32, "encoder_feedforward_dim": 32,
    "train_num_points": 53,
}  # fmt: skip
"""Sizes of the smallest model; `num_labels` apart, which the tests set."""


def main() -> None:
    """Run the tests, print what became of each, and end with code 1 where page and tests disagree."""
    arguments = parse_arguments()
    os.environ |= {"HF_HUB_OFFLINE": "1", "RUN_SLOW": "1"}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        sources = unpacked(arguments.sources or fetched(Path(folder)), Path(folder))
        sys.path.insert(0, str(sources))
        sys.modules.pop("tests", None)
        outcomes = run(test_cases(), arguments.only)
    reasons = {} if arguments.only else reasons_on(PAGE)
    for name, (outcome, message) in sorted(outcomes.items(), key=lambda item: (item[1][0], item[0])):
        print(f"{outcome:14} {name}", message if outcome != "failed" else f"\n{'':16}{message}", sep="  ")
        if outcome == "failed":
            print(f"{'':16}why: {reason_for(name, reasons) or 'NO REASON IN ' + PAGE.name}")
    for group in ("Model", "Config", "ImageProcessor"):
        counts = Counter(outcome for name, (outcome, _) in outcomes.items() if name.startswith(group))
        print(
            f"{group}: "
            + ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "does not apply"))
        )
    if not arguments.only:
        sys.exit(compare(outcomes, reasons))


def compare(outcomes: dict[str, tuple[str, str]], reasons: dict[str, str]) -> int:
    """Return 1, and say why, where a failure has no reason or a reason no failure."""
    failed = [name for name, (outcome, _) in outcomes.items() if outcome == "failed"]
    without = [name for name in failed if reason_for(name, reasons) is None]
    idle = [key for key in reasons if not any(reason_for(name, {key: ""}) is not None for name in failed)]
    print(f"failed without a reason: {without}\nreasons without a failure: {idle}")
    return int(bool(without or idle))


def fetched(folder: Path) -> Path:
    """Return transformers' source distribution from PyPI, of the installed release."""
    package = f"transformers=={transformers.__version__}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers", package]
    subprocess.run([*command, "--dest", str(folder)], check=True)
    (archive,) = folder.glob("*.tar.gz")
    return archive


def unpacked(sources: Path, folder: Path) -> Path:
    """Return a folder with the tests of an archive, and with what stands in for the modules that they miss."""
    with tarfile.open(sources) as archive:
        archive.extractall(folder, filter="data")
        root = folder / archive.getnames()[0].split("/")[0]
    for name, content in MISSING.items():
        if not (root / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)
    return root


def test_cases() -> list[type[unittest.TestCase]]:
    """Return transformers' test cases, told to take our classes."""
    modeling, configuration, processing = (
        importlib.import_module(f"tests.test_{name}_common")
        for name in ("modeling", "configuration", "image_processing")
    )

    class Model(modeling.ModelTesterMixin, unittest.TestCase):
        all_model_classes = (UnderOtherNames,)
        test_resize_embeddings = False

        def setUp(self) -> None:
            torch.manual_seed(0)
            self.model_tester = ModelTester(modeling)

        def _prepare_for_class(
            self, inputs_dict: dict[str, Any], model_class: type, return_labels: bool = False
        ) -> dict[str, Any]:
            inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
            return inputs | self.model_tester.labels() if return_labels else inputs

    class Config(unittest.TestCase):
        def test_config(self) -> None:
            tester = configuration.ConfigTester(
                self, config_class=unisegment.UniSegmentConfig, has_text_modality=False, hidden_dim=64, num_queries=7
            )
            self.model_tester = ModelTester(modeling)
            tester.run_common_tests()

    bases: tuple[Any, ...] = (
        processing.PostProcessSemanticSegmentationTestMixin,
        processing.ImageProcessingTestMixin,
        unittest.TestCase,
    )
    tester_class = type("ImageProcessorTester", (ImageProcessorTester,), {"common": processing})
    image_processor = type("ImageProcessor", bases, {"image_processor_tester_class": tester_class})
    return [Model, Config, image_processor]


class UnderOtherNames(unisegment.UniSegmentForUniversalSegmentation):
    """Our model, with the states of the decoder under the name that tests of models with one kind of states use."""

    @functools.wraps(unisegment.UniSegmentForUniversalSegmentation.forward)
    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """See the class."""
        outputs = super().forward(*arguments, **keywords)
        if isinstance(outputs, dict) and "transformer_decoder_hidden_states" in outputs:
            outputs["hidden_states"] = outputs["transformer_decoder_hidden_states"]
        return outputs


class ModelTester:
    """What ModelTesterMixin asks for: a small config and inputs."""

    is_training = True
    batch_size = 2
    num_labels = 4
    image_size = 64
    # Attention and states are those of the queries.
    num_hidden_layers = SIZES["decoder_layers"] - 1
    num_attention_heads = SIZES["num_attention_heads"]
    hidden_size = SIZES["hidden_dim"]
    seq_length = SIZES["num_queries"]
    num_hidden_states_types = 3 + 1  # of the backbone, of both decoders, and those under another name

    def __init__(self, common: ModuleType) -> None:
        self.common = common

    def get_config(self) -> Any:
        """Return the config of the smallest model that has all parts."""
        backbone = transformers.SwinConfig(
            image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], window_size=3
        )
        return unisegment.UniSegmentConfig(backbone_config=backbone.to_dict(), num_labels=self.num_labels, **SIZES)

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, Any]]:
        """Return config and inputs."""
        shape = [self.batch_size, 3, self.image_size, self.image_size]
        return self.get_config(), {"pixel_values": self.common.floats_tensor(shape)}

    def labels(self) -> dict[str, Any]:
        """Return targets."""
        # The same ones at every call.
        masks = torch.rand(self.batch_size, 3, *[self.image_size] * 2, generator=torch.Generator().manual_seed(0)) > 0.5
        return {
            "mask_labels": list(masks),
            "class_labels": [torch.arange(3) for _ in range(self.batch_size)],
        }


class ImageProcessorTester:
    """What ImageProcessingTestMixin asks for: keywords, images, and the shape that they get."""

    common: ClassVar[Any]
    batch_size = 3
    num_channels = 3
    num_labels = 4
    image_processing_classes: ClassVar = {"pil": unisegment.UniSegmentImageProcessor}

    def __init__(self, parent: unittest.TestCase) -> None:
        self.parent = parent

    def prepare_image_processor_dict(self) -> dict[str, Any]:
        """Return keywords of a processor."""
        return {
            "do_resize": True, "size": {"shortest_edge": 32, "longest_edge": 64}, "do_normalize": True,
            "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "size_divisor": 32,
        }  # fmt: skip

    def expected_output_image_shape(self, images: list[Any]) -> tuple[int, int, int]:
        """Return channels, height and width of the canvas: the shape that transformers' own processor gives."""
        stock = transformers.Mask2FormerImageProcessorPil(**self.prepare_image_processor_dict())
        sizes = [image.size[::-1] if hasattr(image, "getbands") else self._size(image) for image in images]
        blank = [torch.zeros(3, *size, dtype=torch.uint8) for size in sizes]
        height, width = stock(blank, return_tensors="pt").pixel_values.shape[-2:]
        return self.num_channels, height, width

    def _size(self, image: Any) -> tuple[int, ...]:
        return tuple(image.shape[1:] if isinstance(image, torch.Tensor) else image.shape[:2])

    def prepare_image_inputs(self, **keywords: Any) -> list[Any]:
        """Return images of random sizes."""
        return self.common.prepare_image_inputs(
            batch_size=self.batch_size, min_resolution=30, max_resolution=90, num_channels=self.num_channels, **keywords
        )

    def prepare_processor_inputs(self, **keywords: Any) -> dict[str, Any]:
        """Return the arguments of a call."""
        return {"images": self.prepare_image_inputs(**keywords)}

    def prepare_post_process_semantic_segmentation_inputs(self) -> tuple[dict[str, Any], dict[str, int]]:
        """Return a model's output, and what is to be made of it."""
        outputs = unisegment.models.unisegment.outputs.UniSegmentOutput(
            class_queries_logits=torch.randn(self.batch_size, 7, self.num_labels + 1),
            masks_queries_logits=torch.randn(self.batch_size, 7, 8, 16),
            image_sizes=torch.tensor([[32, 64]] * self.batch_size),
        )
        return {"outputs": outputs}, {"height": 32, "width": 64, "num_labels": self.num_labels}


def run(cases: list[type[unittest.TestCase]], only: str | None) -> dict[str, tuple[str, str]]:
    """Return of each "passed", "failed" or "does not apply" (transformers' own conditions skip it), and a message."""
    loader, result = unittest.TestLoader(), unittest.TestResult()
    loader.testNamePatterns = [f"*{only}*"] if only else None
    suites = [loader.loadTestsFromTestCase(case) for case in cases]
    found = {name_of(test): ("passed", "") for suite in suites for test in suite}
    unittest.TestSuite(suites).run(result)
    found |= {name_of(test): ("does not apply", reason) for test, reason in result.skipped}
    for test, traceback in result.failures + result.errors:
        last = re.findall(r"^(?:\w+\.)*\w+(?:Error|Exception)\b.*", traceback, flags=re.MULTILINE | re.DOTALL)
        found[name_of(test)] = ("failed", " ".join(last[-1].split())[:300] if last else traceback)
    return found


def name_of(test: Any) -> str:
    """Return the names of class and method of a test, or of the test that a sub-test is part of."""
    test = getattr(test, "test_case", test)
    return f"{type(test).__name__}.{test._testMethodName}"


def reasons_on(page: Path) -> dict[str, str]:
    """Return the reason of each test, or of all that begin alike, in the rows | `test_name`, `test_other…` | why |."""
    rows = re.findall(r"^\| (`test_.*?) \| (.*) \|$", page.read_text(), flags=re.MULTILINE)
    return {name: why for names, why in rows for name in re.findall(r"`(test_[^`]*)`", names)}


def reason_for(test: str, reasons: dict[str, str]) -> str | None:
    """Return why a test fails, or None."""
    method = test.split(".")[1]
    for name, why in reasons.items():
        if method == name or (name.endswith("…") and method.startswith(name[:-1])):
            return why
    return None


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="?", help="the source distribution, a .tar.gz file")
    parser.add_argument("--only", help="run only tests with this in their name, and compare with no reasons")
    return parser.parse_args()


if __name__ == "__main__":
    main()
