# SPDX-License-Identifier: Apache-2.0
import logging
import os
import pickle
import re
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._inductor import config as inductor

from tests.inference.reads_colours import SAMPLES, make_predictor, make_processor
from unisegment.inference import compiling
from unisegment.inference.compiling import CompiledNetwork
from unisegment.inference.images import load_batches
from unisegment.inference.result import results_of

# Of fewer numbers torch computes a convolution by another function, and makes another graph.
SIZES = [(1, 96, 128), (1, 128, 96), (1, 83, 161), (1, 96, 96), (3, 96, 128), (3, 61, 183), (2, 83, 61), (1, 640, 480)]


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, pixel_values, pixel_mask=None):
        return self.conv(pixel_values).relu() * pixel_mask.sum()


def inputs(batch=1, height=64, width=96):
    torch.manual_seed(height)
    return {"pixel_values": torch.randn(batch, 3, height, width), "pixel_mask": torch.ones(batch, height, width)}


class Backend:
    """Compiles nothing, and counts what it is asked for."""

    def __init__(self):
        self.count = 0

    def __call__(self, graph, _):
        self.count += 1
        return graph.forward


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    torch.compiler.reset()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that what the test sets is taken back
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    yield tmp_path / "unisegment-compiled"
    torch.compiler.reset()


def fails(graph, _):
    raise RuntimeError("no compiler here\nand a page\nof where it was")


@torch.no_grad()
def test_results_are_those_of_the_model_and_one_graph_serves_all_sizes_and_one_more_all_batches():
    model, backend = Network(), Backend()
    network, counts = CompiledNetwork(model, backend=backend), []
    for size in SIZES:
        assert torch.equal(network(**inputs(*size)), model(**inputs(*size)))
        counts.append(backend.count)
    assert counts == [1, 1, 1, 1, 2, 2, 2, 2]


@torch.no_grad()
def test_it_says_once_what_compilation_took_and_gives(capsys):
    network = CompiledNetwork(Network(), backend=Backend())
    for size in SIZES[:3]:
        network(**inputs(*size))
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.match(r"compiled in \d+ s; 96x128 pixels then take \d[\d.]* ms, without compilation \d[\d.]* ms\b", line)


@pytest.mark.parametrize(
    ("compiled", "plain", "expected"),
    [
        (0.0051, 0.0072, "5.1 ms, without compilation 7.2 ms"),
        (1.204, 2.5, "1.20 s, without compilation 2.50 s"),
        (0.07, 0.072, "70 ms, without compilation 72 ms: no gain here, leave compile out"),
    ],
)
def test_what_it_says_of_the_gain(monkeypatch, compiled, plain, expected):
    network = CompiledNetwork(Network(), backend=Backend())
    noise = iter([3.0, 3.0, 1.0, 1.0, *[2.0] * 40])  # the fastest pass of each counts
    monkeypatch.setattr(
        compiling, "_seconds_of", lambda call, _: (plain if call is network.model else compiled) * next(noise)
    )
    assert network._gain(12.2, inputs()) == f"compiled in 12 s; 64x96 pixels then take {expected}"


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
@pytest.mark.skipif(not hasattr(inductor.cpp, "cxx"), reason="this release looks for a compiler elsewhere")
def test_without_a_compiler_the_model_runs_as_it_is(monkeypatch, caplog):
    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    model = Network()
    network = CompiledNetwork(model)
    with caplog.at_level(logging.WARNING, "unisegment"):
        for size in SIZES[:2]:
            assert torch.equal(network(**inputs(*size)), model(**inputs(*size)))
    (record,) = [record for record in caplog.records if record.name.startswith("unisegment")]
    assert "compiler" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert not network.is_compiled


@torch.no_grad()
def test_where_it_cannot_be_compiled_the_model_runs_as_it_is_and_one_line_says_why(caplog, capsys):
    model = Network()
    network = CompiledNetwork(model, backend=fails)
    with caplog.at_level(logging.WARNING, "unisegment"):
        for size in SIZES[:3]:
            assert torch.equal(network(**inputs(*size)), model(**inputs(*size)))
    (record,) = [record for record in caplog.records if record.name.startswith("unisegment")]
    assert "runs without it: RuntimeError: no compiler here. See" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert capsys.readouterr().err == ""


def test_errors_of_the_network_stay_what_they_are():
    with torch.no_grad(), pytest.raises(Exception, match="channels") as raised:
        CompiledNetwork(Network(), backend=Backend())(pixel_values=torch.ones(1, 5, 8, 8), pixel_mask=torch.ones(1))
    assert isinstance(raised.value, RuntimeError)


def test_the_model_stays_as_it_is(tmp_path):
    model = Network().eval()
    network = CompiledNetwork(model, backend="eager")
    with torch.no_grad():
        network(**inputs())
    assert [*model.state_dict()] == ["conv.weight", "conv.bias"]
    assert not model.training
    again = pickle.loads(pickle.dumps(network))
    assert torch.equal(again.model.conv.weight, model.conv.weight)


def test_what_is_compiled_is_kept_in_the_users_cache(cache):
    CompiledNetwork(Network(), backend="eager")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(cache)
    assert cache.stat().st_mode & 0o777 == 0o700


def test_the_users_own_folder_wins(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "elsewhere"))
    CompiledNetwork(Network(), backend="eager")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "elsewhere")
    assert not cache.exists()


def test_without_a_cache_torchs_own_folder_serves(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    CompiledNetwork(Network(), backend="eager")
    assert "unisegment-compiled" not in os.environ.get("TORCHINDUCTOR_CACHE_DIR", "")


def test_a_pickled_result_of_a_compiled_network_has_no_weights():
    predictor = make_predictor()
    predictor.model.ballast = nn.Linear(1000, 1000)
    (batch,) = load_batches(SAMPLES, make_processor(), [0])
    outputs = predictor.forward(batch)
    compiled = replace(predictor, network=CompiledNetwork(predictor.model, backend="eager"))
    (result,) = results_of(batch, outputs, compiled, 0.5)
    assert len(pickle.dumps(result)) < 1e6
