# SPDX-License-Identifier: Apache-2.0
"""What the command `unisegment` and `python -m unisegment` start."""

import gc
from collections.abc import Sequence


def main(words: Sequence[str] | None = None, name: str = "unisegment") -> None:
    """Run the command, and exit.

    Args:
        words: Subcommand, arguments and options; None takes those that the process was started with.
        name: What the command is called in its help.
    """
    # What imports make lives to the end: to look for garbage in it takes a second and a half of every command.
    gc.disable()
    from unisegment.cli import app

    gc.enable()
    gc.freeze()
    app(words, prog_name=name)


if __name__ == "__main__":
    main()
