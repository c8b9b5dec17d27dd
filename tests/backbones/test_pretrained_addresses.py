# SPDX-License-Identifier: Apache-2.0
"""Official weights that lie elsewhere, fetched from a server of our own."""

import hashlib
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from threading import Thread

import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification

from tests.backbones.small_configs import RESNET
from unisegment.backbones.pretrained import pretrained_config
from unisegment.backbones.resnet_weights import TORCHVISION_NAMES
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        self.server.asked.append(self.path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of a folder, and where what is fetched from it is kept."""
    (tmp_path / "served").mkdir()
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    server = HTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "served")))
    server.asked = []
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def put(tmp_path, name):
    """Serve a small ResNet under torchvision's names; return its weights under ours."""
    model = ResNetForImageClassification(ResNetConfig(**RESNET))
    own = model.resnet.state_dict()
    torch.save(TORCHVISION_NAMES.to_theirs(own), tmp_path / "served" / "weights.pth")
    digest = hashlib.sha256((tmp_path / "served" / "weights.pth").read_bytes()).hexdigest()
    name = name.format(digest=digest[:8])
    (tmp_path / "served" / "weights.pth").rename(tmp_path / "served" / name)
    return own, name


def address(server, name):
    return f"http://127.0.0.1:{server.server_port}/{name}"


def test_a_file_is_fetched_once_and_loaded(server, tmp_path):
    own, name = put(tmp_path, "resnet-{digest}.pth")
    source = address(server, name)
    config = UniSegmentConfig(
        **{"backbone": source, "use_pretrained_backbone": True, "num_labels": 3, "feature_size": 32},
        **{"mask_feature_size": 32, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 2},
        **{"num_attention_heads": 2, "dim_feedforward": 16, "encoder_feedforward_dim": 16},
    )
    model = UniSegmentForUniversalSegmentation(config)
    weights = model.backbone.state_dict()
    key = "embedder.embedder.convolution.weight"
    assert torch.equal(next(value for name, value in weights.items() if name.endswith(key)), own[key])
    assert server.asked == [f"/{name}"]
    assert [record["name"] for record in model.config.base_weights] == [source]
    assert [path.name for path in (tmp_path / "hub" / "checkpoints").iterdir()] == [name]


def test_another_content_than_the_name_says_is_refused(server, tmp_path):
    _, name = put(tmp_path, "resnet-0123abcd.pth")
    with pytest.raises(FileNotFoundError, match=r"cannot be fetched: invalid hash value .* name your own file"):
        pretrained_config(address(server, name))
    assert list((tmp_path / "hub" / "checkpoints").iterdir()) == []


def test_a_missing_file_says_where_to_put_it(server, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"gone\.pth cannot be fetched: .*404.*put it at .*checkpoints/gone\.pth"
    ):
        pretrained_config(address(server, "gone.pth"))
