# SPDX-License-Identifier: Apache-2.0
"""Uploads to a stand-in of the Hub that is told to fail."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import Mask2FormerForUniversalSegmentation
from typer.testing import CliRunner

from tests.hub.stand_in import TOKEN
from tests.hub.tiny_runs import logits, save, tiny_model, tiny_processor
from unisegment import UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.cli import app
from unisegment.hub import PushError, check_push, push, pushing, stage
from unisegment.ops.weight_sources import MissingSourceError

# What huggingface_hub says to its own HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

COWS = "someone/cows"
LARGE_FILES = r"^PUT /lfs/"


SMALL = {"README.md": b"---\nlicense: mit\n---\n# Cows\n", "model.safetensors": bytes(range(251)) * 501}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Upload two files instead of a model, which takes time to make."""

    def stage_small(folder, destination, repo_id, **settings):
        for name, content in SMALL.items():
            Path(destination, name).write_bytes(content)

    monkeypatch.setattr(pushing, "stage", stage_small)
    monkeypatch.chdir(tmp_path)
    Path("runs/cows").mkdir(parents=True)
    Path("runs/cows/config.json").touch()
    return "runs/cows"


def staged(run, folder, **settings):
    stage(run, folder, COWS, **settings)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same(model, other, tolerance):
    for one, two in zip(logits(model), logits(other), strict=True):
        assert (one - two).abs().max() <= tolerance * two.abs().max()


def test_what_arrives_is_what_was_staged(hub, run, tmp_path):
    assert push(run, COWS) == f"{hub.url}/{COWS}"
    assert hub.content(COWS) == staged(run, tmp_path / "staged")
    assert hub.repositories[COWS].commits == ["Upload a model of unisegment"]
    assert not hub.repositories[COWS].private
    # Large files in parts and whole.
    assert hub.requests_of(rf"{LARGE_FILES}\w+/2$")
    ours = UniSegmentForUniversalSegmentation.from_pretrained(run / "checkpoint")
    arrived = hub.write(COWS, tmp_path / "arrived")
    assert_same(Mask2FormerForUniversalSegmentation.from_pretrained(arrived), ours, 1e-4)
    assert_same(UniSegmentForUniversalSegmentation.from_pretrained(arrived), ours, 0)
    # And by its name.
    assert_same(UniSegmentForUniversalSegmentation.from_pretrained(COWS), ours, 0)
    assert UniSegmentImageProcessor.from_pretrained(COWS).settings() == tiny_processor().settings() | {
        "id2label": ours.config.id2label
    }


def test_our_layout_arrives(hub, tmp_path):
    save(tmp_path / "fpn", pixel_decoder="fpn")
    push(tmp_path / "fpn", COWS)
    ours = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "fpn")
    arrived = UniSegmentForUniversalSegmentation.from_pretrained(hub.write(COWS, tmp_path / "arrived"))
    assert arrived.config.pixel_decoder == "fpn"
    assert_same(arrived, ours, 0)


def test_nothing_is_uploaded_twice(hub, run):
    push(run, COWS)
    hub.requests.clear()
    push(run, COWS)
    assert not hub.requests_of(f"{LARGE_FILES}|/commit/")
    assert len(hub.repositories[COWS].commits) == 1


def test_files_that_were_there_stay(hub, run):
    push(run, COWS)
    hub.content(COWS)["NOTES.md"] = b"mine"
    push(run, COWS, license="mit", message="With a licence")
    assert hub.content(COWS)["NOTES.md"] == b"mine"
    assert b"license: mit" in hub.content(COWS)["README.md"]
    assert hub.repositories[COWS].commits[-1] == "With a licence"


def test_a_name_alone_is_the_users_own_and_privacy_is_kept(hub, small):
    assert push(small, "cows", private=True).endswith("/someone/cows")
    assert hub.repositories[COWS].private
    push(small, "cows", private=True)
    hub.repositories[COWS].private = False
    before = dict(hub.content(COWS))
    with pytest.raises(PushError, match="someone/cows exists and is public"):
        push(small, "cows", private=True)
    assert hub.content(COWS) == before


def test_a_branch(hub, small):
    assert push(small, COWS, revision="v2").endswith("/someone/cows/tree/v2")
    push(small, COWS, revision="v2")
    assert hub.content(COWS, "v2")
    assert not hub.content(COWS)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET /api/whoami-v2", 500),
        ("POST /api/repos/create", 502),
        ("POST /api/validate-yaml", 503),
        ("/preupload/", 429),
        ("/objects/batch", 500),
        (LARGE_FILES, 503),
        (LARGE_FILES, None),
        (r"POST /lfs/", 500),
        ("/commit/", 500),
        ("/commit/", 409),
        ("/commit/", 412),
        ("/commit/", None),
    ],
)
def test_what_breaks_is_tried_again(hub, small, slept, request_, status):
    hub.fail(request_, status, times=2)
    push(small, COWS)
    assert hub.content(COWS) == SMALL
    assert len(hub.repositories[COWS].commits) == 1
    assert slept


def test_a_page_of_a_proxy_is_no_answer_and_is_asked_for_again(hub, small, slept):
    hub.fail("/validate-yaml", 502, body="<html>bad gateway</html>")
    push(small, COWS)
    assert hub.content(COWS)


def test_the_hub_says_how_long_to_wait(hub, small, slept):
    hub.fail("/commit/", 429, headers={"Retry-After": 37})
    push(small, COWS)
    assert 37 in slept
    slept.clear()
    hub.fail("/repos/create", 503, headers={"Retry-After": 99999})
    push(small, COWS)
    assert slept == [300]


def test_a_lost_answer_makes_no_second_commit(hub, small):
    hub.lose_answer_of = "/commit/"
    push(small, COWS)
    assert len(hub.repositories[COWS].commits) == 1


def test_an_upload_that_died_before_its_commit_goes_on(hub, run, tmp_path, slept):
    before = {path: path.is_file() and path.read_bytes() for path in run.rglob("*")}
    hub.fail("/commit/", 503, times=-1)
    with pytest.raises(PushError, match=r"first could not be pushed to someone/cows: The Hub at http.*503") as error:
        push(run, COWS, license="mit", private=True)
    assert "Nothing is lost" in str(error.value)
    assert {path: path.is_file() and path.read_bytes() for path in run.rglob("*")} == before
    assert hub.content(COWS) == {}  # all or nothing
    assert hub.requests_of(LARGE_FILES)
    hub.failures.clear()
    hub.requests.clear()
    command = shlex.split(str(error.value).splitlines()[-1])
    result = CliRunner().invoke(app, command[1:])
    assert result.exit_code == 0, result.output
    assert not hub.requests_of(LARGE_FILES)
    assert hub.content(COWS) == staged(run, tmp_path / "staged", license="mit")


def test_a_transfer_that_always_breaks_ends(hub, small):
    hub.fail(LARGE_FILES, None, times=-1)
    with pytest.raises(PushError, match=r"The Hub at http.*; .*Nothing is lost"):
        push(small, COWS)
    assert hub.content(COWS) == {}


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        ("/whoami", 401, r"does not accept the token \(401\)\. Make one .* `hf auth login`"),
        ("/preupload/", 401, r"does not accept the token \(401\)"),
        ("/repos/create", 403, r"The token may not do this \(403: .*\)\. Make one"),
        ("/commit/", 403, r"The token may not do this \(403"),
        ("/preupload/", 404, "404"),
    ],
)
def test_what_will_not_pass_is_not_tried_again(hub, small, slept, request_, status, reason):
    hub.fail(request_, status, times=-1)
    with pytest.raises(PushError, match=reason):
        push(small, COWS)
    assert not slept
    assert len(hub.requests_of(request_)) == 1


def test_what_the_hub_has_against_a_card_is_said(hub, small, slept):
    hub.fail("/validate-yaml", 400, body='{"errors": [{"message": "license must be a name"}]}')
    with pytest.raises(PushError, match=r"Invalid metadata in README\.md; - license must be a name"):
        push(small, COWS)
    assert not slept


def test_a_token_is_needed(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PushError, match="There is no token for the Hub: log in with `hf auth login`, or set HF_TOKEN"):
        check_push(COWS)
    Path(constants.HF_TOKEN_PATH).write_text(TOKEN)
    assert check_push("cows") == COWS


def test_a_wrong_token(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    with pytest.raises(PushError, match=r"does not accept the token \(401\)"):
        check_push(COWS)


def test_a_token_that_may_only_read(hub):
    hub.role = "read"
    with pytest.raises(PushError, match=r"token of someone may only read\. Make one"):
        check_push(COWS)


def test_offline(hub, monkeypatch, slept):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PushError, match="HF_HUB_OFFLINE forbids to reach the Hub: unset it"):
        check_push(COWS)
    assert not slept


def test_a_hub_that_is_not_there(hub, monkeypatch, slept):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PushError, match=r"The Hub at http://127.0.0.1:9: "):
        check_push(COWS)
    assert slept == [1, 4, 16]


def test_a_full_disk(hub, run, monkeypatch):
    def save_pretrained(*arguments, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(UniSegmentForUniversalSegmentation, "save_pretrained", save_pretrained)
    with pytest.raises(PushError, match=r"first could not be got ready in .*TMPDIR.*No space left"):
        push(run, COWS)


def test_a_folder_without_weights_is_no_matter_of_the_disk(hub, run):
    (run / "checkpoint" / "model.safetensors").unlink()
    with pytest.raises(MissingSourceError, match=r"checkpoint holds no weights: expected is model\.safetensors or"):
        push(run, COWS)


@pytest.mark.parametrize("name", ["a/b/c", "so/many spaces", ""])
def test_wrong_names_are_refused_first(hub, small, name):
    with pytest.raises(ValueError, match=r"[Rr]epo id"):
        push(small, name)
    assert not hub.requests


def test_the_command(hub, run, tmp_path):
    result = CliRunner().invoke(
        app, ["push", str(run), COWS, "--private", "--format", "unisegment", "--license", "mit"]
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"{hub.url}/{COWS}"
    assert hub.content(COWS) == staged(run, tmp_path / "staged", license="mit", format="unisegment")
    hub.role = "read"
    result = CliRunner().invoke(app, ["push", str(run), COWS])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: The Hub's token of someone may only read")
    hub.role = "write"
    result = CliRunner().invoke(app, ["push", str(tmp_path / "nothing"), COWS])
    assert (result.exit_code, result.stderr) == (1, f"error: {tmp_path}/nothing does not exist.\n")


# The Hub's address is read from the environment when its library is imported, which one interpreter does for both.
PUSH_IN_TWO = """
import os, sys
from unisegment.cli import app
child = os.fork()
for number, name in enumerate(("output", "errors"), start=1):
    os.dup2(os.open(f"{name}-{int(child == 0)}", os.O_CREAT | os.O_WRONLY), number)
try:
    app()
except SystemExit as end:
    other = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0
    sys.exit(end.code or other)
"""


@pytest.mark.slow
def test_two_processes_push_at_once_to_the_hub_of_the_environment(hub, run, tmp_path):
    hub.fail("/commit/", 409)
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    command = [sys.executable, "-c", PUSH_IN_TWO, "push", run, COWS]
    result = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False
    )
    outputs, errors = ([(tmp_path / f"{name}-{rank}").read_text() for rank in (0, 1)] for name in ("output", "errors"))
    assert result.returncode == 0, errors
    assert all(output.endswith(f"{hub.url}/{COWS}\n") for output in outputs)
    assert hub.content(COWS) == staged(run, tmp_path / "staged")
    assert not any(re.search(TOKEN, text) for text in (*outputs, *errors, result.stdout, result.stderr))


@pytest.mark.parametrize("format", ["unisegment", "transformers"])
def test_push_to_hub_of_model_and_processor(hub, tmp_path, format):
    model = tiny_model()
    model.push_to_hub(COWS, format=format, private=True)
    tiny_processor().push_to_hub(COWS, format=format)
    arrived = hub.write(COWS, tmp_path / "arrived")
    assert hub.repositories[COWS].private
    assert set(hub.content(COWS)) == {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert_same(UniSegmentForUniversalSegmentation.from_pretrained(arrived), model, 0)
    if format == "transformers":
        assert_same(Mask2FormerForUniversalSegmentation.from_pretrained(arrived), model, 1e-4)
    assert UniSegmentImageProcessor.from_pretrained(arrived).settings() == tiny_processor().settings() | {
        "id2label": model.config.id2label
    }


def test_what_goes_up_is_listed_before(hub, run, capsys, monkeypatch):
    monkeypatch.setattr(pushing, "_upload", lambda *arguments: pytest.fail(capsys.readouterr().err, pytrace=False))
    with pytest.raises(pytest.fail.Exception) as caught:
        push(run, COWS)
    _, announced, listed = str(caught.value).partition("To someone/cows on the Hub go:\n")
    lines = listed.splitlines()
    assert announced
    names = [
        "README.md",
        "config.json",
        "model.safetensors",
        "prediction.png",
        "preprocessor_config.json",
        "recipe.yaml",
    ]
    assert [line.split()[0] for line in lines] == names
    assert lines[3].endswith("bytes  an image of the held-out data")
