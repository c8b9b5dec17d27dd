# SPDX-License-Identifier: Apache-2.0
"""The process of one stage: hands rows to its parent, one line of JSON each, as soon as they are known.

python -m gpu_report.child MODULE FILE_DESCRIPTOR SETTINGS
"""

import ctypes
import importlib
import os
import signal
import sys
import traceback

from gpu_report.rows import failure, to_line
from gpu_report.settings import Settings

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run one stage; what it raises is a row, too."""
    module, descriptor, words = sys.argv[1:]
    # No stage goes on when the report was killed, nor do its own children hold the pipe open.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.set_inheritable(int(descriptor), False)
    with os.fdopen(int(descriptor), "w", encoding="utf-8") as pipe:
        try:
            for row in importlib.import_module(f"gpu_report.{module}").rows(Settings.from_json(words)):
                print(to_line(row), file=pipe, flush=True)
        except Exception as error:
            traceback.print_exc()
            print(to_line({"what": "stage", "error": failure(error)}), file=pipe, flush=True)


if __name__ == "__main__":
    main()
