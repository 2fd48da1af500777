"""What a program says when it was asked for something it cannot do."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn


class BadInput(ValueError):
    """A request that cannot be met: what was wrong, where, and what to write.

    The message is one line, because `run` prints it as it stands.
    """


def run(
    main: Callable[[Sequence[str]], object], argv: Sequence[str] | None = None
) -> None:
    """Calls `main` on the command line's arguments.

    A `BadInput` becomes one line on stderr, `error: <line>`, and exit status 2.
    Anything else is a defect of ours and keeps its traceback.

    `argv`: the arguments without the program's name; None takes `sys.argv[1:]`.
    """
    try:
        main(sys.argv[1:] if argv is None else argv)
    except BadInput as error:
        _refuse(error)


def _refuse(error: BadInput) -> NoReturn:
    line = " ".join(str(error).split())
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)
