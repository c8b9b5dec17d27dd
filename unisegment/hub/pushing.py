# SPDX-License-Identifier: Apache-2.0
"""The folder of a run or of a checkpoint in, a repository on the Hugging Face Hub out.

huggingface_hub does the work, with its settings: the token of `hf auth login` or HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE.
"""

import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError

from unisegment.errors import ForeseenError
from unisegment.hub.model_card import PICTURE
from unisegment.hub.run_files import read_run
from unisegment.hub.staging import stage
from unisegment.models.choices import Layout
from unisegment.ops.weight_sources import MissingSourceError

T = TypeVar("T")

_WAITS = (1, 4, 16)
"""Seconds before the second, third and fourth attempt. huggingface_hub repeats most requests by itself before that."""
_LONGEST_WAIT = 300
"""Seconds that a busy Hub may ask for."""
_PASSING = (408, 409, 412, 429)
"""Statuses that may not come again, as all from 500 on: too late, in conflict with another push, too many requests."""
_CONTENTS = {
    "README.md": "the model card",
    "config.json": "sizes and names of classes",
    "model.safetensors": "the weights",
    "preprocessor_config.json": "the image processor",
    PICTURE: "an image of the held-out data",
    "recipe.yaml": "all keys of the run; of paths and addresses the last part",
}
_NEW_TOKEN = (
    "Make one with permission to write at https://huggingface.co/settings/tokens, and give it to `hf auth login` or "
    "HF_TOKEN."
)
# The base of all errors of its HTTP client, which is another package from release to release.
_HTTPError: type[Exception] = HfHubHTTPError.__bases__[0]
_FAILURES = (_HTTPError, OSError, RuntimeError, ValueError)


class PushError(ForeseenError):
    """A model could not be uploaded. Nothing is lost; the message says why and how to go on."""


def push(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    format: Layout = "auto",
    license: str | None = None,
    message: str = "Upload a model of unisegment",
) -> str:
    """Upload a model, with its processor, recipe, scores and a model card written from its run.

    All goes into one commit or nothing does. What breaks on the way is tried again; after a final failure the same call
    goes on: the Hub keeps the files that it has received. Nothing that is here is changed. What goes
    up is listed first, on standard error.

    Args:
        folder: `run.output_dir` of a finished run, or a checkpoint.
        repo_id: `user/name`, or `name` alone for the user's own; made when it is missing.
        private: Nobody else sees the repository.
        revision: Branch, made when it is missing; None is the main one.
        format: "auto" uploads transformers' own layout where a model of its can be what the model is, else ours.
        license: Licence of the weights, where those that they come from leave the choice.
        message: First line of the commit.

    Returns:
        Address of the repository.

    Raises:
        PushError: When it could not be uploaded.
        MissingSourceError: When there are no weights.
        ValueError: When there is nothing to upload, or the arguments make no sense.
    """
    read_run(Path(folder))  # what is missing here is found before the Hub is asked
    repo_id = check_push(repo_id, private)
    with TemporaryDirectory(prefix="unisegment-push-") as staged:
        try:
            stage(folder, staged, repo_id, format=format, license=license)
        except MissingSourceError:  # is of the folder, and no matter of the disk
            raise
        except (OSError, SafetensorError) as error:
            raise PushError(
                f"{os.fspath(folder)} could not be got ready in {staged} (TMPDIR names another place): {error}"
            ) from error
        print(_announcement(Path(staged), repo_id), file=sys.stderr)
        try:
            return _keep_trying(lambda: _upload(staged, repo_id, private, revision, message))
        except _FAILURES as error:
            options = {"--revision": revision, "--format": format, "--license": license, "--message": message}
            words = [word for name, value in options.items() if value is not None for word in (name, value)]
            again = shlex.join(["unisegment", "push", os.fspath(folder), repo_id, *words, *["--private"] * private])
            raise PushError(
                f"{os.fspath(folder)} could not be pushed to {repo_id}: {_reason(error)} Nothing is lost: the folder "
                f"is as it was, and the Hub keeps the files that it has received. This goes on from there:\n  {again}"
            ) from error


def check_push(repo_id: str, private: bool = False) -> str:
    """Find out early what would keep a push from success, without making anything.

    Args:
        repo_id: As in `push`.
        private: As in `push`.

    Returns:
        The whole name of the repository.

    Raises:
        PushError: When nobody is logged in, or may not write; when the Hub is out of reach; when what is to be private
            is public.
        ValueError: When it is no name.
    """
    validate_repo_id(repo_id)
    try:
        user = _keep_trying(_api().whoami)
        repo_id = repo_id if "/" in repo_id else f"{user['name']}/{repo_id}"
        is_public = private and _keep_trying(lambda: _is_public(repo_id))
    except _FAILURES as error:
        raise PushError(_reason(error)) from error
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise PushError(f"The Hub's token of {user['name']} may only read. {_NEW_TOKEN}")
    if is_public:
        raise PushError(f"{repo_id} exists and is public. Make it private in its settings, or choose another name.")
    return repo_id


def _api() -> HfApi:
    return HfApi(library_name="unisegment", library_version=version("unisegment"))


def _is_public(repo_id: str) -> bool:
    try:
        return not _api().model_info(repo_id).private
    except RepositoryNotFoundError:
        return False


def _upload(staged: str, repo_id: str, private: bool, revision: str | None, message: str) -> str:
    api = _api()
    # None, and not False, leaves an organisation its own default.
    api.create_repo(repo_id, private=private or None, exist_ok=True)
    if revision is not None:
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    api.upload_folder(repo_id=repo_id, folder_path=staged, commit_message=message, revision=revision)
    return f"{api.endpoint}/{repo_id}" + (f"/tree/{revision}" if revision else "")


def _announcement(staged: Path, repo_id: str) -> str:
    files = sorted(path for path in staged.rglob("*") if path.is_file())
    width = max(len(path.name) for path in files)
    lines = [
        f"  {path.name:<{width}}  {path.stat().st_size:>13,} bytes  {_CONTENTS.get(path.name, '')}".rstrip()
        for path in files
    ]
    return "\n".join([f"To {repo_id} on the Hub go:", *lines])


def _keep_trying(action: Callable[[], T]) -> T:
    """Do something again when it fails for a reason that may pass."""
    for wait in _WAITS:
        try:
            return action()
        except _FAILURES as error:
            if not _may_pass(error):
                raise
            seconds = max(wait, _asked_wait(error))
            logging.getLogger(__name__).warning("%s Trying again in %s seconds.", _reason(error), seconds)
            time.sleep(seconds)
    return action()


def _may_pass(error: BaseException) -> bool:
    causes = list(_causes(error))
    if any(isinstance(cause, OfflineModeIsEnabled | LocalTokenNotFoundError) for cause in causes):
        return False
    status = _status(error)
    if status is not None:
        return status in _PASSING or status >= 500
    # A broken answer, a broken connection, or whatever the transfer of files has met.
    passing = (json.JSONDecodeError, _HTTPError, ConnectionError, TimeoutError, RuntimeError)
    return any(isinstance(cause, passing) for cause in causes)


def _reason(error: BaseException) -> str:
    """Say in a sentence or two what is wrong, and what to do about it where that is known."""
    causes = list(_causes(error))
    if any(isinstance(cause, LocalTokenNotFoundError) for cause in causes):
        return "There is no token for the Hub: log in with `hf auth login`, or set HF_TOKEN."
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in causes):
        return "HF_HUB_OFFLINE forbids to reach the Hub: unset it."
    status = _status(error)
    if status == 401:
        return f"The Hub does not accept the token (401). {_NEW_TOKEN}"
    if status == 403:
        return f"The token may not do this (403: {_said(error)}). {_NEW_TOKEN}"
    return f"The Hub at {_api().endpoint}: {_said(error)}."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _response(error: BaseException) -> object:
    return next((cause.response for cause in _causes(error) if isinstance(cause, HfHubHTTPError)), None)


def _status(error: BaseException) -> int | None:
    return getattr(_response(error), "status_code", None)


def _asked_wait(error: BaseException) -> int:
    asked = getattr(_response(error), "headers", {}).get("Retry-After", "")
    return min(int(asked), _LONGEST_WAIT) if asked.isdecimal() else 0


def _said(error: BaseException) -> str:
    lines = [line.strip(" .") for cause in _causes(error) for line in str(cause).splitlines()]
    told = [line for line in dict.fromkeys(lines) if line and not line.startswith("For more information")]
    return "; ".join(told) or type(error).__name__
