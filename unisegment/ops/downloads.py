# SPDX-License-Identifier: Apache-2.0
"""The https:// address of a file in, the file here out: fetched once, and of the same content ever after.

Or the address of what is looked at once, and its content out.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
    getproxies,
)

from unisegment.files import WriteError, filled_folder, inside, make_folder, write_text

_TIMEOUT = 30
"""Seconds that a server may be silent."""
_CHUNK = 2**20
"""Bytes read at a time."""


def is_address(name: str) -> bool:
    """Return whether a name is the address of something elsewhere."""
    return "://" in name


def public_address(name: str) -> str:
    """Return an address without what may be a password: user, query and fragment; any other name as it is."""
    if not is_address(name):
        return name
    scheme, _, rest = re.split(r"[?#]", name, maxsplit=1)[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def fetch(address: str, known: str | None = None) -> Path:
    """Return the file of an address. Its content is verified by SHA-256 each time, not only when it was fetched.

    It is kept in a folder of torch.hub's that is named after the whole address, so that no other address is answered by
    it. A file that torch.hub has already serves as well where its content is the known one.

    Args:
        address: Begins with https://, and so does whatever it leads to.
        known: SHA-256 of the content. None takes that of the first time, which is kept beside the file, and must begin
            as a name in the manner of torchvision says (`resnet50-19c8e357.pth`).

    Raises:
        FileNotFoundError: When it cannot be fetched, or has another content than it should.
        ValueError: When it is no https:// address of a file, or the content of the file here has changed.
        WriteError: When it cannot be written.
    """
    file = _place(address)
    shared = _hub_folder() / "checkpoints" / file.name
    if known is not None and not file.is_file() and shared.is_file() and _digest_of(shared) == known:
        return shared
    record = file.with_name(f"{file.name}.sha256")
    expected = known
    if known is None and record.is_file():
        expected = record.read_text(encoding="utf-8", errors="replace").partition(" ")[0] or None
    if not file.is_file():
        _download(address, file, expected)
    digest = _digest_of(file)
    if not _agrees(digest, file.name, expected):
        raise ValueError(
            f"{file} is not what {public_address(address)} should give: its SHA-256 is {digest}, expected "
            f"{_expectation(file.name, expected)}. Remove the folder {file.parent} to fetch it anew."
        )
    if expected is None:
        write_text(record, f"{digest}  {file.name}\n")
    return file


def content_of(address: str, most_bytes: int, most_seconds: float) -> bytes:
    """Return what is at an address that begins with http:// or https://, without keeping it.

    Args:
        address: Where. A user and password in it go to its server, and to none that this leads to.
        most_bytes: Largest content.
        most_seconds: Longest time that it may take to come.

    Raises:
        ValueError: When it cannot be fetched, or is more than that.
    """
    end, content = monotonic() + most_seconds, bytearray()
    try:
        parts = urlsplit(address)
        login, _, host = parts.netloc.rpartition("@")
        request = Request(urlunsplit(parts._replace(netloc=host, fragment="")), headers={"User-Agent": "unisegment"})
        if login:
            request.add_unredirected_header("Authorization", f"Basic {b64encode(unquote_to_bytes(login)).decode()}")
        with _opener(HTTPHandler, HTTPSHandler).open(request, timeout=_TIMEOUT) as response:
            for chunk in _chunks(response):
                content += chunk
                if len(content) > most_bytes or monotonic() > end:
                    raise _BrokenError(
                        f"it has more than {most_bytes} bytes, or takes more than {most_seconds} seconds"
                    )
    except (OSError, HTTPException, ValueError, _BrokenError) as error:
        reason = " ".join(str(_reason(error)).split())
        raise ValueError(f"{public_address(address)} cannot be fetched: {reason.rstrip('.')}.") from error
    return bytes(content)


def _hub_folder() -> Path:
    import torch  # here, because whether a name is an address is asked without it

    return Path(torch.hub.get_dir())


def _place(address: str) -> Path:
    """Return where the file of an address is kept."""
    parts = urlsplit(address)
    if parts.scheme != "https" or "@" in parts.netloc or not parts.hostname:
        raise ValueError(
            f"{public_address(address)}: only an https:// address without a user name is fetched. Fetch it yourself, "
            "and name your file."
        )
    key = hashlib.sha256(address.encode()).hexdigest()
    return inside(_hub_folder() / "unisegment" / key, parts.path.rpartition("/")[2])


def _download(address: str, file: Path, expected: str | None) -> None:
    make_folder(file.parent)
    try:
        request = Request(urlunsplit(urlsplit(address)._replace(fragment="")), headers={"User-Agent": "unisegment"})
        with _opener(HTTPSHandler).open(request, timeout=_TIMEOUT) as response, filled_folder(file.parent) as folder:
            with (folder / file.name).open("wb") as stream:
                for chunk in _chunks(response):
                    stream.write(chunk)
            digest = _digest_of(folder / file.name)
            if not _agrees(digest, file.name, expected):
                raise _BrokenError(f"its SHA-256 is {digest}, expected {_expectation(file.name, expected)}")
    except WriteError:
        raise
    except (OSError, HTTPException, UnicodeError, _BrokenError) as error:
        raise FileNotFoundError(
            f"{public_address(address)} cannot be fetched: {_reason(error)}. Fetch it elsewhere and put it at {file}, "
            "or name your own file."
        ) from error


class _BrokenError(Exception):
    """What came is not what was to come."""


def _reason(error: Exception) -> Any:
    if isinstance(error, HTTPError):
        error.close()  # it holds the connection
    return error.reason if type(error) is URLError else error


def _opener(*schemes: type[HTTPHandler | HTTPSHandler]) -> OpenerDirector:
    """Return an opener that nothing leads away from these: a redirection to ftp or file is an error."""
    opener = OpenerDirector()
    kinds = {"https" if scheme is HTTPSHandler else "http" for scheme in schemes}
    proxies = {kind: proxy for kind, proxy in getproxies().items() if kind in kinds}
    for handler in (
        *(ProxyHandler(proxies), *(scheme() for scheme in schemes), UnknownHandler()),
        *(HTTPErrorProcessor(), HTTPDefaultErrorHandler(), HTTPRedirectHandler()),
    ):
        opener.add_handler(handler)
    return opener


def _chunks(response: Any) -> Iterator[bytes]:
    """Yield the content of an answer, which must be as long as it says."""
    promised, received = response.length, 0
    while True:
        try:
            chunk = response.read1(_CHUNK)
        except (OSError, HTTPException) as error:  # which is not of the disk that is written to
            raise _BrokenError(f"after {received} bytes: {error}") from error
        if not chunk:
            break
        received += len(chunk)
        yield chunk
    if promised is not None and promised != received:
        raise _BrokenError(f"{received} of {promised} bytes came")


def _digest_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _agrees(digest: str, name: str, expected: str | None) -> bool:
    return digest == expected if expected is not None else digest.startswith(_beginning(name))


def _expectation(name: str, expected: str | None) -> str:
    return expected or f"one that begins with {_beginning(name)}, as the name says"


def _beginning(name: str) -> str:
    """Return what names such as those of torchvision hold: the beginning of the SHA-256."""
    found = re.search(r"-([0-9a-f]{8,})\.", name)
    return found[1] if found else ""
