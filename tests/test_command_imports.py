# SPDX-License-Identifier: Apache-2.0
"""What the command imports before it knows that there is something to compute: in fresh processes."""

import json
import shutil
import subprocess
import sys

import torch
import typer
from PIL import Image
from safetensors.torch import save_file

from unisegment import cli

HEAVY = {"torch", "transformers", "accelerate", "datasets", "pycocotools", "scipy", "numpy"}
COMMANDS = sorted(typer.main.get_command(cli.app).commands)
CODE_OF_MODELS = "transformers.modeling_utils"
"""It brings torch.distributed.tensor, sympy and scipy.optimize: as much time as all that a refusal needs."""
SHOW_MODULES = (
    f"CODE_OF_MODELS = {CODE_OF_MODELS!r}"
    + """
import json, sys
from unisegment.__main__ import main
seen = []
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        packages = {name.partition(".")[0] for name in sys.modules}
        seen.append([end.code, sorted(packages | {CODE_OF_MODELS} & sys.modules.keys())])
print(json.dumps(seen), file=sys.stderr)
"""
)


def modules_after(*lines):
    """Return the exit status of each command line, and the packages that all until then have imported."""
    ran = subprocess.run([sys.executable, "-c", SHOW_MODULES, json.dumps(lines)], capture_output=True, text=True)
    return json.loads(ran.stderr.splitlines()[-1])


def test_help_and_misuse_import_nothing_heavy():
    lines = [
        *(["--help"], ["--version"], ["recipes"], *([command, "--help"] for command in COMMANDS)),
        *(["trian"], ["--bogus"], ["train"], ["convert", "a", "b", "--to", "onnx"], ["check-data", "a", "--workers=0"]),
        *(["predict", "a", "b", "c", "--threshold", "2"], ["predict", "a", "b", "--name", "a/b"]),
        ["evaluate", "a", "--no-such-option"],
    ]
    seen = modules_after(*lines)
    assert [status for status, _ in seen] == [0] * (3 + len(COMMANDS)) + [2] * 8
    assert not HEAVY & set(seen[-1][1])


def test_what_is_missing_is_found_before_anything_heavy_is_imported():
    seen = modules_after(
        *(["train", "nope.yaml"], ["evaluate", "/nope", "x"], ["predict", "/nope", "x", "out"]),
        *(["convert", "/nope", "out"], ["push", "/nope", "user/name"], ["recipes", "nothing"]),
    )
    assert [status for status, _ in seen] == [1] * 6
    assert not HEAVY & set(seen[-1][1])


def test_what_is_refused_needs_no_code_of_models(tmp_path):
    contents = {
        "other": {"model_type": "detr"},
        "value": {"model_type": "unisegment", "hidden_dim": -1},
        "stock": {"model_type": "mask2former", "num_queries": 0},
        "damaged": {"model_type": "unisegment", "backbone_config": {"model_type": "resnet"}},
    }
    for name, content in contents.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(content))
        (tmp_path / name / "model.safetensors").write_bytes(b"no weights")
    processor = tmp_path / "processor"
    shutil.copytree(tmp_path / "damaged", processor)
    save_file({"weight": torch.zeros(3)}, processor / "model.safetensors")
    (processor / "preprocessor_config.json").write_text('{"image_mean": "x"}')
    Image.new("RGB", (7, 5)).save(tmp_path / "photo.png")
    (tmp_path / "file.pth").write_bytes(b"no weights")
    (tmp_path / "empty").mkdir()
    data = ["data.root=nothing", "data.format=coco_panoptic"]
    seen = modules_after(
        *(["convert", str(tmp_path / name), str(tmp_path / "out")] for name in (*contents, "processor", "file.pth")),
        ["predict", str(processor), str(tmp_path / "photo.png"), str(tmp_path / "out")],
        ["predict", str(tmp_path / "damaged"), str(tmp_path / "empty")],
        ["evaluate", str(tmp_path / "damaged"), str(tmp_path / "empty")],
        ["train", "quickstart", *data, f"run.output_dir={tmp_path / 'run'}"],
        ["push", str(tmp_path / "empty"), "user/name"],
        ["check-data", str(tmp_path / "empty")],
    )
    assert [status for status, _ in seen] == [1] * len(seen)
    assert CODE_OF_MODELS not in seen[-1][1]
