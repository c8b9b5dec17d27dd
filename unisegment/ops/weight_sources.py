# SPDX-License-Identifier: Apache-2.0
"""The name of a checkpoint, here or on the Hub, in; whether it is there, said at once and in one line, out.

Libraries that read checkpoints find that out late, after minutes of attempts to connect, and say it in pages.
"""

import os
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from unisegment.errors import ForeseenError

WEIGHT_ENDINGS = (".pth", ".pt", ".pkl", ".bin", ".safetensors")
"""How files of weights end."""
_TIMEOUT = 10
"""Seconds that the Hub has for an answer."""
# The base of all errors of its HTTP client, which is another package from release to release.
_HTTPError: type[Exception] = HfHubHTTPError.__bases__[0]


class MissingSourceError(ForeseenError, FileNotFoundError):
    """There is no checkpoint of a name, or none that can be reached; in one line."""

    found_by_all = True


def require_source(name: str) -> None:
    """Raise unless there is something of a name: a file or folder here, or a model on the Hugging Face Hub.

    What is here, or was fetched from the Hub before, is found without a network. The Hub is asked once.

    Args:
        name: A path, or the name of a model on the Hub.

    Raises:
        MissingSourceError: When there is nothing, or the Hub cannot be reached to look for it.
    """
    if os.path.exists(name):
        return
    if not may_be_on_hub(name):
        raise MissingSourceError(f"{name} does not exist.")
    if is_in_hub_cache(name):
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, constants.CONFIG_NAME), timeout=_TIMEOUT)
    except GatedRepoError as error:
        raise MissingSourceError(f"{name}: accept its terms on the Hugging Face Hub first.") from error
    except RepositoryNotFoundError as error:
        raise MissingSourceError(
            f"{name} does not exist: there is no file or folder of that name, and no model on the Hugging Face Hub "
            "that you may see."
        ) from error
    except EntryNotFoundError as error:
        raise MissingSourceError(f"{name} on the Hugging Face Hub has no {constants.CONFIG_NAME}.") from error
    except OfflineModeIsEnabled as error:
        raise MissingSourceError(f"{_not_here(name)} HF_HUB_OFFLINE keeps from looking there.") from error
    except (_HTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MissingSourceError(f"{_not_here(name)} The Hub cannot be reached: {reason}") from error


def find_checkpoint(source: str | os.PathLike[str]) -> str:
    """Return where a checkpoint is, without opening it: the name itself, or the checkpoint in the folder of a run.

    Args:
        source: A folder or Hub id of ours or of a model of transformers, a file of an original code, or the folder of
            a finished run (`run.output_dir`), which stands for `checkpoint/` in it.

    Raises:
        MissingSourceError: When there is nothing of that name, the Hub cannot be reached to look for it, or the folder
            holds no checkpoint.
    """
    name = os.fspath(source)
    require_source(name)
    folder = Path(name)
    if not folder.is_dir() or (folder / "config.json").is_file():
        return name
    if (folder / "checkpoint" / "config.json").is_file():
        return str(folder / "checkpoint")
    best = folder / "checkpoint-best"
    instead = f" The best model so far of the run there is {best}." if (best / "config.json").is_file() else ""
    raise MissingSourceError(
        f"{name} holds no checkpoint: it must be a folder with config.json in it, or that of a finished run, with "
        f"checkpoint/ in it.{instead}"
    )


def _not_here(name: str) -> str:
    return (
        f"{name} does not exist here: there is no file or folder of that name, and no model that was fetched from the "
        "Hugging Face Hub before."
    )


def is_in_hub_cache(name: str) -> bool:
    """Return whether a model was fetched from the Hugging Face Hub before."""
    return may_be_on_hub(name) and isinstance(try_to_load_from_cache(name, constants.CONFIG_NAME), str)


def may_be_on_hub(name: str) -> bool:
    """Return whether a model on the Hugging Face Hub may have a name; so may a folder."""
    if Path(name).suffix in WEIGHT_ENDINGS:
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
