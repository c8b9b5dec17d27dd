# SPDX-License-Identifier: Apache-2.0
"""Files that lie elsewhere, fetched from a server of our own."""

import hashlib
import shutil
from urllib.parse import urlsplit

import pytest
import torch

from tests.https_server import https_server
from unisegment.files import WriteError
from unisegment.ops import downloads
from unisegment.ops.downloads import content_of, fetch, public_address

CONTENT = bytes(range(251)) * 97
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch.hub's folder, where what was fetched is kept."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def server(tmp_path, monkeypatch, hub):
    (tmp_path / "served" / "other").mkdir(parents=True)
    (tmp_path / "served" / "model.pth").write_bytes(CONTENT)
    with https_server(tmp_path / "served", monkeypatch) as server:
        yield server


def kept(hub):
    return sorted(path.name for path in hub.rglob("*") if path.is_file())


def test_a_file_is_fetched_once(server, hub):
    file = fetch(server.address("model.pth"))
    assert file.read_bytes() == CONTENT
    assert fetch(server.address("model.pth")) == file
    assert server.asked == ["/model.pth"]
    assert file.with_name("model.pth.sha256").read_text() == f"{DIGEST}  model.pth\n"
    assert kept(hub) == ["model.pth", "model.pth.sha256"]


def test_another_address_of_the_same_name_is_another_file(server, tmp_path):
    (tmp_path / "served" / "other" / "model.pth").write_bytes(b"other")
    assert fetch(server.address("other/model.pth")).read_bytes() == b"other"
    assert fetch(server.address("model.pth")).read_bytes() == CONTENT
    assert fetch(server.address("model.pth?token=1")).name == "model.pth"
    assert server.asked == ["/other/model.pth", "/model.pth", "/model.pth?token=1"]


@pytest.mark.parametrize("known", [None, DIGEST])
def test_a_file_that_was_changed_here_is_refused(server, known):
    file = fetch(server.address("model.pth"), known)
    file.write_bytes(CONTENT[::-1])
    with pytest.raises(
        ValueError, match=rf"is not what .*/model.pth should give: .* expected {DIGEST}. Remove the fold"
    ):
        fetch(server.address("model.pth"), known)
    shutil.rmtree(file.parent)
    assert fetch(server.address("model.pth"), known).read_bytes() == CONTENT


@pytest.mark.parametrize(("name", "known"), [("model.pth", "0" * 64), ("model-0123abcd.pth", None)])
def test_another_content_than_is_known_is_not_kept(server, hub, tmp_path, name, known):
    (tmp_path / "served" / "model.pth").rename(tmp_path / "served" / name)
    expected = known or "one that begins with 0123abcd, as the name says"
    with pytest.raises(
        FileNotFoundError, match=f"cannot be fetched: its SHA-256 is {DIGEST}, expected {expected}. Fetch"
    ):
        fetch(server.address(name), known)
    assert kept(hub) == []


def test_names_that_hold_the_beginning_are_checked_against_it(server, tmp_path):
    name = f"model-{DIGEST[:8]}.pth"
    (tmp_path / "served" / "model.pth").rename(tmp_path / "served" / name)
    assert fetch(server.address(name)).read_bytes() == CONTENT


def test_a_file_that_was_put_there_by_hand_serves(server, hub):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth cannot be fetched: .*404") as error:
        fetch(server.address("gone.pth"))
    place = str(error.value).partition("put it at ")[2].partition(", or")[0]
    shutil.copy(hub.parent / "served" / "model.pth", place)
    assert str(fetch(server.address("gone.pth"))) == place


def test_what_torch_hub_has_serves_where_its_content_is_known(server, hub):
    (hub / "checkpoints").mkdir(parents=True)
    (hub / "checkpoints" / "model.pth").write_bytes(CONTENT)
    assert fetch(server.address("model.pth"), DIGEST) == hub / "checkpoints" / "model.pth"
    assert server.asked == []
    (hub / "checkpoints" / "model.pth").write_bytes(b"planted")
    assert fetch(server.address("model.pth"), DIGEST).read_bytes() == CONTENT
    assert fetch(server.address("model.pth")).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "address",
    [
        "http://{host}/model.pth",
        "file:///etc/passwd.pth",
        "ftp://{host}/model.pth",
        "s3://bucket/model.pth",
        "https://me:secret@{host}/model.pth",
        "https:///model.pth",
    ],
)
def test_only_https_is_fetched(server, hub, address):
    with pytest.raises(ValueError, match="only an https:// address without a user name is fetched") as error:
        fetch(address.format(host=f"127.0.0.1:{server.server_port}"))
    assert "secret" not in str(error.value)
    assert (server.asked, kept(hub)) == ([], [])


@pytest.mark.parametrize("name", ["", "..", "a/..", "%00/..", "a\\b"])
def test_an_address_names_a_file(server, hub, name):
    with pytest.raises(ValueError, match="is no name of a file"):
        fetch(server.address(name))
    assert (server.asked, kept(hub)) == ([], [])


@pytest.mark.parametrize("target", ["http://{host}/model.pth", "file://{folder}/model.pth", "ftp://{host}/model.pth"])
def test_nothing_leads_away_from_https(server, hub, tmp_path, monkeypatch, target):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    host = urlsplit(server.address("")).netloc
    server.redirects["/moved.pth"] = target.format(host=host, folder=tmp_path / "served")
    with pytest.raises(FileNotFoundError, match=r"moved\.pth cannot be fetched"):
        fetch(server.address("moved.pth"))
    assert (server.asked, kept(hub)) == (["/moved.pth"], [])


@pytest.mark.parametrize(
    "address", ["https://localhost:x/a.pth", "https://localhost/ü b.pth", "https://localhost:1/a.pth"]
)
def test_an_address_that_leads_nowhere_is_named(hub, address):
    with pytest.raises(FileNotFoundError, match=r"cannot be fetched: .* Fetch it elsewhere and put it at"):
        fetch(address)


def test_a_redirection_to_https_is_followed(server):
    server.redirects["/moved.pth"] = server.address("model.pth")
    assert fetch(server.address("moved.pth")).read_bytes() == CONTENT


def test_half_a_file_is_none(server, hub):
    server.cut = True
    with pytest.raises(FileNotFoundError, match=rf"{len(CONTENT) // 2} of {len(CONTENT)} bytes came"):
        fetch(server.address("model.pth"))
    assert kept(hub) == []
    server.cut = False
    assert fetch(server.address("model.pth")).read_bytes() == CONTENT


def test_a_server_that_falls_silent_is_given_up(server, hub, monkeypatch):
    monkeypatch.setattr(downloads, "_TIMEOUT", 0.1)
    server.pause = 60
    with pytest.raises(FileNotFoundError, match=r"cannot be fetched: .*timed out"):
        fetch(server.address("model.pth"))
    assert kept(hub) == []


def test_a_disk_that_cannot_be_written_to_is_said_as_such(server, hub):
    hub.write_text("in the way")
    with pytest.raises(WriteError, match="could not be written"):
        fetch(server.address("model.pth"))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("https://me:secret@host:8/a/b.pth?token=secret#x", "https://host:8/a/b.pth"),
        ("https://host/a@b.pth", "https://host/a@b.pth"),
        ("https://host?token=a/b", "https://host"),
        ("hf://datasets/me/cows@v1/x.parquet?token=1", "hf://datasets/me/cows@v1/x.parquet"),
        ("me/cows", "me/cows"),
        ("a?b#c", "a?b#c"),
    ],
)
def test_what_may_be_a_password_is_left_out(address, public):
    assert public_address(address) == public


def test_what_is_looked_at_once_is_not_kept(server, hub):
    assert content_of(server.address("model.pth#part"), 10**6, 60) == CONTENT
    assert kept(hub) == []
    for most_bytes, most_seconds in ((1000, 60), (10**6, -1)):
        with pytest.raises(ValueError, match=r"has more than .* bytes, or takes more than"):
            content_of(server.address("model.pth"), most_bytes, most_seconds)
    server.cut = True
    with pytest.raises(ValueError, match="bytes came"):
        content_of(server.address("model.pth"), 10**6, 60)


def test_a_login_goes_to_its_own_server_alone(server, monkeypatch):
    sent = []
    open_it = downloads.OpenerDirector.open
    monkeypatch.setattr(
        downloads.OpenerDirector,
        "open",
        lambda self, request, **options: sent.append(dict(request.header_items())) or open_it(self, request, **options),
    )
    server.redirects = {"/moved.pth": "/model.pth"}
    assert content_of(server.address("moved.pth").replace("//", "//user:p%40ss@"), 10**6, 60) == CONTENT
    assert sent[0]["Authorization"] == "Basic dXNlcjpwQHNz"
    assert not any("Authorization" in headers for headers in sent[1:])
    assert server.asked == ["/moved.pth", "/model.pth"]
