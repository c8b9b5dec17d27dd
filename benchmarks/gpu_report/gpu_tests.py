# SPDX-License-Identifier: Apache-2.0
"""Stage: the tests that need a GPU, tests/gpu, by pytest."""

import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator

from gpu_report.programs import PYTHON
from gpu_report.report import ROOT
from gpu_report.rows import Row
from gpu_report.settings import Settings

# Where a package brings a folder `tests` along, it would be taken for ours.
_BEGIN = (
    "import sys, types; tests = types.ModuleType('tests'); tests.__path__ = ['tests']; sys.modules['tests'] = tests; "
)
_BEGIN += "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
_OUTCOME = re.compile(r"^(tests/\S+?)::(.+?) (PASSED|FAILED|SKIPPED|ERROR|XFAIL|XPASS)")
_MOST_FAILURES = 10


def rows(settings: Settings) -> Iterator[Row]:
    """Yield a row for each failure, and one of all of a file's tests; compute-sanitizer has a stage of its own."""
    words = ["-v", "--tb=short", "-p", "no:cacheprovider", "-k", "not sanitizer", "tests/gpu"]
    process = subprocess.Popen(
        [PYTHON, "-c", _BEGIN, *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    counts: dict[str, Counter] = {}
    failures, last = 0, ""
    # A little before this process is killed itself, so that what is known then is told.
    timer = threading.Timer(settings.left() - 3, process.kill)
    timer.start()
    with process:
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
            found = _OUTCOME.match(line)
            if found is None:
                continue
            file, test, outcome = found.groups()
            counts.setdefault(file, Counter())[outcome.lower()] += 1
            if outcome in ("FAILED", "ERROR") and failures < _MOST_FAILURES:
                failures += 1
                yield {"what": f"{file}::{test}"[:150], "error": "failed; log.txt says how"}
    yield from ({"what": file, **dict(count)} for file, count in counts.items())
    status = process.returncode
    timer.cancel()
    wrong = "no end in its time" if status == -signal.SIGKILL else f"status {status}"
    yield {"what": "pytest", "value": last} | ({"error": wrong} if status else {})
