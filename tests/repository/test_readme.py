# SPDX-License-Identifier: Apache-2.0
"""What the README tells people to type works."""

import re
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import ResNetConfig

from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.data.synthetic import write_synthetic

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


def block_with(text):
    (block,) = [block for block in BLOCKS if text in block]
    return block


def test_use(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = UniSegmentConfig(
        backbone_config=ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1]),
        feature_size=32, mask_feature_size=16, hidden_dim=32, encoder_layers=1, decoder_layers=2, num_queries=5,
        id2label={0: "sky", 1: "car"},
    )  # fmt: skip
    UniSegmentForUniversalSegmentation(config).save_pretrained("runs/quickstart/checkpoint")
    processor = UniSegmentImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}, stuff_label_ids=[0])
    processor.save_pretrained("runs/quickstart/checkpoint")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (53, 71, 3), dtype=np.uint8)).save("photo.jpg")
    exec(block_with("draw("), {})
    assert capsys.readouterr().out.startswith("[")
    with Image.open("panoptic.png") as picture:
        assert picture.width >= 71


def test_panoptic_quality_of_files(tmp_path, monkeypatch, capsys):
    write_synthetic(tmp_path / "scenes", num_train=1, num_val=3, progress=False)
    annotations = tmp_path / "scenes" / "annotations"
    monkeypatch.chdir(tmp_path)
    for name, folder in (("gt", "gt"), ("predictions", "predictions")):
        Path(f"{name}.json").write_bytes((annotations / "panoptic_val.json").read_bytes())
        Path(folder).symlink_to(annotations / "panoptic_val", target_is_directory=True)
    exec(block_with("panoptic_quality_from_files"), {})
    assert capsys.readouterr().out.startswith("1.0 1.0 1.0")


def test_links_lead_somewhere():
    for page in ROOT.glob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (ROOT / link).exists(), (page.name, link)
