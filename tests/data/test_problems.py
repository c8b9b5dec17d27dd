# SPDX-License-Identifier: Apache-2.0
"""Problems are all counted, and the first of each kind listed."""

from pathlib import Path

from unisegment.data.problems import KINDS, CollectedProblems


def test_findings_are_counted_and_the_first_listed():
    findings = CollectedProblems(listed=2)
    findings.add("leak", Path("x/a.jpg"), "one")
    for number in range(3):
        findings.add("empty-file", f"{number}.jpg", "0 bytes")
    assert (findings.count("error"), findings.count("warning")) == (3, 1)
    assert findings.as_dicts() == [
        {
            "kind": "empty-file",
            "severity": "error",
            "meaning": KINDS["empty-file"].meaning,
            "count": 3,
            "listed": [{"file": "0.jpg", "detail": "0 bytes"}, {"file": "1.jpg", "detail": "0 bytes"}],
        },
        {
            "kind": "leak",
            "severity": "warning",
            "meaning": KINDS["leak"].meaning,
            "count": 1,
            "listed": [{"file": "x/a.jpg", "detail": "one"}],
        },
    ]


def test_kinds_are_written_alike():
    for kind, (severity, meaning) in KINDS.items():
        assert kind == kind.lower()
        assert " " not in kind
        assert severity in ("error", "warning")
        assert meaning.endswith(".")
