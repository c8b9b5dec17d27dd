# SPDX-License-Identifier: Apache-2.0
"""What the README and the pages in docs/ tell people to type works."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import ResNetConfig

from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.data.categories import label_names, stuff_label_ids
from unisegment.data.synthetic import write_synthetic
from unisegment.runs.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """Go to a folder with everything that code on a page may name; it may leave there what it likes."""
    monkeypatch.chdir(tmp_path)
    write_synthetic(tmp_path / "scenes", num_train=5, num_val=3, progress=False)
    annotations = tmp_path / "scenes" / "annotations"
    for name, folder in (("gt", "gt"), ("predictions", "predictions")):
        Path(f"{name}.json").write_bytes((annotations / "panoptic_val.json").read_bytes())
        Path(folder).symlink_to(annotations / "panoptic_val", target_is_directory=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (53, 71, 3), dtype=np.uint8)).save("photo.jpg")
    Path("runs").mkdir()
    Path("runs/quickstart-scenes").symlink_to(tmp_path / "scenes", target_is_directory=True)
    labels = label_names("coco_panoptic")
    config = UniSegmentConfig(
        backbone_config=ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1]),
        feature_size=32, mask_feature_size=16, hidden_dim=32, encoder_layers=1, decoder_layers=2, num_queries=5,
        train_num_points=112, id2label=labels,
    )  # fmt: skip
    model = UniSegmentForUniversalSegmentation(config)
    model.save_pretrained("runs/quickstart/checkpoint")
    model.export_original("model_final.pkl")
    size = {"shortest_edge": 64, "longest_edge": 96}
    processor = UniSegmentImageProcessor(size=size, stuff_label_ids=stuff_label_ids(labels))
    processor.save_pretrained("runs/quickstart/checkpoint")
    return tmp_path


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")  # Trainer asks for it on a CPU, too
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_runs_from_top_to_bottom(page, working_folder, capsys):
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(block, names)
    if page.name == "README.md":
        printed = capsys.readouterr().out
        assert printed.startswith("[")
        assert "\n1.0 1.0 1.0 " in printed
        with Image.open("panoptic.png") as picture:
            assert picture.width >= 71


def test_pages_and_the_recipe_expect_the_same_of_the_quickstart():
    expected = load_recipe("quickstart").evaluation.expected
    ranges = re.findall(r"0\.\d+ to 0\.\d+", expected)
    assert len(ranges) == 3
    for page in ("README.md", "recipes/README.md"):
        assert [line for line in (ROOT / page).read_text().splitlines() if all(part in line for part in ranges)], page


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *PAGES[1:]], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link
