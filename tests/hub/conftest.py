# SPDX-License-Identifier: Apache-2.0
"""A stand-in of the Hub that huggingface_hub talks to, and the folder of a run to upload."""

import json
import time
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http
from PIL import Image
from transformers.utils import hub as transformers_hub

from tests.hub.stand_in import TOKEN, running
from tests.hub.tiny_runs import METRICS, save, write_recipe
from unisegment.hub import pushing


@pytest.fixture
def hub(monkeypatch, slept, tmp_path):
    with running() as stand_in:
        monkeypatch.setattr(constants, "ENDPOINT", stand_in.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", stand_in.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(transformers_hub, "_hf_api", None, raising=False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield stand_in
        huggingface_hub.close_session()


@pytest.fixture
def slept(monkeypatch):
    """Waiting takes no time, and is written down."""
    seconds = []
    clock = SimpleNamespace(**{**vars(time), "sleep": seconds.append})
    for module in (pushing, _http):
        monkeypatch.setattr(module, "time", clock)
    return seconds


@pytest.fixture
def run(tmp_path):
    """Give the folder of a run that learned from a folder with a telling name."""
    folder = tmp_path / "runs" / "first"
    save(folder / "checkpoint")
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    write_recipe(folder, tmp_path / "customers" / "cows: 2024")
    (folder / "predictions").mkdir()
    Image.new("RGB", (13, 7), "red").save(folder / "predictions" / "00000_secret name.png")
    return folder
