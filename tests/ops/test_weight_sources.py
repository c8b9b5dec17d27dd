# SPDX-License-Identifier: Apache-2.0
"""What is not there is said in one line and at once; whom the Hub is asked for is a stand-in."""

import pytest
from huggingface_hub import constants, errors

from unisegment.ops import weight_sources
from unisegment.ops.weight_sources import MissingSourceError, require_source


def test_what_is_here_needs_no_network(tmp_path):
    require_source(str(tmp_path))
    (tmp_path / "model.pth").touch()
    require_source(str(tmp_path / "model.pth"))


def test_what_was_fetched_before_needs_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--me--cows"
    for place in (model / "snapshots/abc", model / "refs"):
        place.mkdir(parents=True)
    (model / "snapshots/abc/config.json").write_text("{}")
    (model / "refs/main").write_text("abc")
    require_source("me/cows")


@pytest.mark.parametrize("name", ["/nope", "./nope", "a/b/c", "nope.pth", "me/nope.safetensors", "x y"])
def test_what_is_no_name_on_the_hub_is_not_looked_for_there(name, monkeypatch):
    monkeypatch.setattr(weight_sources, "get_hf_file_metadata", None)
    with pytest.raises(MissingSourceError) as caught:
        require_source(name)
    assert str(caught.value) == f"{name} does not exist."


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE keeps from looking there."),
        (ConnectionError("no route\nto the host"), "The Hub cannot be reached: no route"),
        (weight_sources._HTTPError("timed out"), "The Hub cannot be reached: timed out"),
    ],
)
def test_a_hub_out_of_reach_is_said(error, said, monkeypatch):
    calls = []

    def ask(address, **settings):
        calls.append(address)
        raise error

    monkeypatch.setattr(weight_sources, "get_hf_file_metadata", ask)
    with pytest.raises(MissingSourceError) as caught:
        require_source("me/nope")
    (line,) = str(caught.value).splitlines()
    assert line.startswith("me/nope does not exist here: there is no file or folder of that name, and no model")
    assert line.endswith(said)
    assert len(calls) == 1


def answer(kind):
    """Return an error of huggingface_hub, which takes the response of its HTTP client."""
    return kind.__new__(kind)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (errors.GatedRepoError, "me/nope: accept its terms on the Hugging Face Hub first."),
        (
            errors.RepositoryNotFoundError,
            "me/nope does not exist: .* no model on the Hugging Face Hub that you may see.",
        ),
        (errors.RemoteEntryNotFoundError, "me/nope on the Hugging Face Hub has no config.json."),
    ],
)
def test_what_the_hub_says_is_said(kind, said, monkeypatch):
    def ask(address, **settings):
        raise answer(kind)

    monkeypatch.setattr(weight_sources, "get_hf_file_metadata", ask)
    with pytest.raises(MissingSourceError, match=f"^{said}$"):
        require_source("me/nope")
