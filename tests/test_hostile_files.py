# SPDX-License-Identifier: Apache-2.0
"""Files that somebody hands over, through every command that takes such a file: one line, and nothing runs or hangs."""

import json
import os
import pickle
import time
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from typer.testing import CliRunner

from unisegment import UniSegmentConfig, cli

RECIPES = {
    "aliases of aliases": "a: &a [x, x]\n"
    + "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in pairwise("abcdefghijklmnopqr")),
    "an alias of itself": "data: &a {root: *a}",
    "brackets": "[" * 500,
    "deep lists": "- " * 500 + "1",
    "no encoding": b"M\xff",
    "another encoding": "data: é".encode("utf-16"),
    "a date": "a: 2001-13-45",
    "no number": "run: {seed: 0x_}",
    "a number of 5000 digits": "run: {seed: " + "9" * 5000 + "}",
    "a number of 65 bits": "run: {seed: 18446744073709551616}",
    "code": "!!python/object/apply:os.mkdir [EXECUTED]",
    "a set": "!!set {a, b}",
    "a key twice": "run: {seed: 1, seed: 2}",
    "a key that is a list": "{[1]: [2]}",
    "NUL": 'data: {root: "a\\0b"}',
    "extends itself": "extends: r.yaml",
    "extends a device": "extends: /dev/zero",
    "not a mapping": "[1, 2]",
    "nothing": "",
}
TAKES_RECIPES = (
    ["train", "r.yaml"],
    ["train", "r.yaml", "--dry-run"],
    ["check-data", "r.yaml"],
    ["evaluate", "model", "--recipe", "r.yaml"],
    ["predict", "model", "r.yaml", "out"],
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    UniSegmentConfig().save_pretrained("model")  # what is asked before the weights
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save("a.png")
    (tmp_path / "images").mkdir()
    os.link("a.png", "images/a.png")
    yield tmp_path
    assert not (tmp_path / "EXECUTED").exists()


def refused(words, status=1):
    start = time.process_time()
    result = CliRunner().invoke(cli.app, words, prog_name="unisegment")
    assert time.process_time() - start < 5
    assert result.exit_code == status, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert "fault of unisegment" not in line
    assert len(line) < 2100
    return line


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(folder, name):
    content = RECIPES[name]
    (folder / "r.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    for words in TAKES_RECIPES:
        assert "r.yaml" in refused(words)


@pytest.mark.parametrize("value", [".nan", "-.inf", "[1, [2]]", "{a: {b: 1}}", '"\\0"', "2001-13-45", "-1"])
@pytest.mark.parametrize("key", ["data.workers", "data.num_train", "optim.lr", "schedule.max_steps", "run.threads"])
def test_values_on_the_command_line(folder, key, value):
    (folder / "r.yaml").write_text("data: {root: x}\nrun: {output_dir: out}")
    for words in TAKES_RECIPES[:3]:
        assert key in refused([*words, f"{key}={value}"])


def coco(**changed):
    entry = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 8, 2, 8, 8]], "iscrowd": 0} | changed
    image = {"id": 1, "file_name": "a.png", "height": 16, "width": 16}
    return {"images": [image], "categories": [{"id": 1, "name": "c"}], "annotations": [entry]}


@pytest.mark.parametrize(
    "content",
    [
        *("{[1]:[2]}", "[" * 10_000, "M\xff", '{"images": 1e999}', "1" * 5000, "{}", "[]"),
        *(json.dumps(coco(segmentation=[[1, 1, 8, far, 8, 8]])) for far in (2**32, 1e9, 1e300, -1e18)),
        *(json.dumps(coco(**{key: wrong})) for key in ("image_id", "category_id") for wrong in ([1], {"a": 1}, 2**64)),
    ],
)
def test_coco_files(folder, content):
    for split in ("train2017", "val2017"):
        (folder / split).mkdir()
        os.link("a.png", folder / split / "a.png")
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / f"annotations/instances_{split}.json").write_bytes(content.encode("latin-1"))
    refused(["evaluate", "model", ".", "--format", "coco_instance"])
    result = CliRunner().invoke(cli.app, ["check-data", ".", "--format", "coco_instance", "--workers", "1"])
    assert (result.exit_code, result.stderr) == (1, "")
    assert "unexpected-exception" not in result.output
    assert "process-died" not in result.output


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.png", "a\0b.png", "C:\\a.png", [1], None])
def test_lists_of_images(folder, name):
    (folder / "list.json").write_text(json.dumps({"images": [{"id": 1, "file_name": name}]}))
    before = (folder / "a.png").read_bytes()
    assert "list.json" in refused(["predict", "model", "images", "out", "--images", "list.json", "--to", "label_png"])
    assert (folder / "a.png").read_bytes() == before


def laughs():
    value = ["x"]
    for _ in range(30):
        value = [value] * 10
    return pickle.dumps({"model": value}, protocol=2)


WEIGHTS = {
    "shared lists": laughs(),
    "a large memo": b"\x80\x02Nr\xff\xff\xff\x0f.",
    "code": b"cos\nmkdir\n(S'EXECUTED'\ntR.",
    "nothing": b"",
    "an archive of nothing": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_files_of_weights(folder, name):
    (folder / "w.pkl").write_bytes(WEIGHTS[name])
    for words in (["convert", "w.pkl", "out"], ["predict", "w.pkl", "images", "out"]):
        assert "w.pkl" in refused(words)


@pytest.mark.parametrize(
    "changed",
    [
        *({"num_queries": wrong} for wrong in (100_000_000, [1], "7", -1, 2**64, None)),
        *({"decoder_layers": 10_000_000}, {"num_attention_heads": 0}, {"backbone_config": [1]}, {"id2label": 5}),
    ],
)
def test_configs(folder, changed):
    config = json.loads((folder / "model/config.json").read_text())
    (folder / "model/config.json").write_text(json.dumps(config | changed))
    for words in (
        ["convert", "model", "out"],
        ["predict", "model", "images", "out"],
    ):
        assert next(iter(changed)) in refused(words)


def test_things_that_are_no_files(folder):
    os.mkfifo("fifo.png")
    os.mkfifo("fifo.yaml")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "loop").symlink_to("loop")
    for words in (
        ["train", "fifo.yaml"],
        ["train", "/dev/zero"],
        ["check-data", "loop"],
        ["check-data", "/dev/zero"],
        ["predict", "model", "loop", "out"],
        ["predict", "model", "fifo.png", "out"],
        ["evaluate", "model", "fifo.png"],
        ["convert", "fifo.png", "out"],
    ):
        refused(words)


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "model", ".", "out", "--threshold", "nan"],
        ["predict", "model", ".", "out", "--workers", "100000"],
        ["evaluate", "model", ".", "--limit", "18446744073709551616"],
        ["evaluate", "model", ".", "--top-k", "18446744073709551616"],
        ["check-data", ".", "--workers", "100000"],
    ],
)
def test_options(folder, words):
    refused(words, status=2)


def test_a_setting_of_the_environment_is_no_fault_of_a_file(folder, monkeypatch):
    monkeypatch.setenv("UNISEGMENT_KERNELS", "yes")
    save_file({}, folder / "model/model.safetensors")
    assert refused(["convert", "model", "out"]).startswith("error: The environment variable UNISEGMENT_KERNELS takes")
