# SPDX-License-Identifier: Apache-2.0
"""The process of one stage: hands rows to its parent, one line of JSON each, as soon as they are known.

python -m gpu_report.child MODULE,… FILE_DESCRIPTOR SETTINGS
"""

import ctypes
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator

from gpu_report.rows import Row, failure, to_line
from gpu_report.settings import Settings

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run the modules of a stage, one after the other; what one raises is a row, too."""
    modules, descriptor, words = sys.argv[1:]
    # No stage goes on when the report was killed, nor do its own children hold the pipe open.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.set_inheritable(int(descriptor), False)
    with os.fdopen(int(descriptor), "w", encoding="utf-8") as pipe:
        for name in modules.split(","):
            for row in rows_of(name, Settings.from_json(words)):
                print(to_line({"stage": name, **row}), file=pipe, flush=True)


def rows_of(name: str, settings: Settings) -> Iterator[Row]:
    """Yield the rows of a module, and one more if it breaks off."""
    try:
        yield from importlib.import_module(f"gpu_report.{name}").rows(settings)
    except Exception as error:
        traceback.print_exc()
        yield {"what": "stage", "error": failure(error)}


if __name__ == "__main__":
    main()
