# SPDX-License-Identifier: Apache-2.0
"""What the command `unisegment` and `python -m unisegment` start."""

import sys
from collections.abc import Sequence

from unisegment.errors import INTERRUPTED
from unisegment.models.auto import watch


def main(words: Sequence[str] | None = None, name: str = "unisegment") -> None:
    """Run the command, and exit.

    Args:
        words: Subcommand, arguments and options; None takes those that the process was started with.
        name: What the command is called in its help.
    """
    if words is None:  # this process is the command's own
        watch(waits=True)
    try:
        from unisegment.cli import app  # takes a moment, in which Ctrl-C may come

        app(words, prog_name=name)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        # CPython remembers an interrupt in code that an import made of a string, as dataclasses do, and would end by
        # the signal whatever status is asked for; the next such code lets it forget.
        exec("")


if __name__ == "__main__":
    main()
