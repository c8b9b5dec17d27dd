# SPDX-License-Identifier: Apache-2.0
"""Programs that a stage runs beside Python."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SMALL_CASE = str(Path(__file__).with_name("small_case.py"))
PYTHON = sys.executable


@dataclass(frozen=True)
class Said:
    """How a program ended, and what it printed.

    Args:
        status: None when it had to be killed, -1 when it could not be started.
        text: Standard output and standard error together.
    """

    status: int | None
    text: str


def run(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> Said:
    """Run a program for at most so many seconds; what it prints goes to the log, too."""
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=max(1.0, seconds),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = Said(None, (error.stdout or b"").decode(errors="replace"))
    except OSError as error:
        said = Said(-1, str(error))
    else:
        said = Said(done.returncode, done.stdout.decode(errors="replace"))
    print("$", " ".join(command), f"\n{said.text[-20_000:]}\n-> {said.status}", flush=True)
    return said
