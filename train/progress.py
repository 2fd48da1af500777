"""What a program says while it works, on stderr: lines, and how far it has come.

On a terminal progress is a bar that goes when the work is done, elsewhere a line now
and then. Either has the count, the rate and the time that is left.
"""

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

SILENT = 2.0  # seconds before the first word about some work, and at least between two
SELDOM = 60.0  # between two in a log file, where they come at growing distances

# Whether this process speaks; `train.runtime.hosts` knows.
speaks: Callable[[], bool] = lambda: True


class _Lines:
    """A stream that keeps all it is given: what a bar writes to move about is left out.
    It may lie on a full disk, which is no reason to stop."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        text = text.strip()
        if text and not text.startswith("\x1b"):
            with contextlib.suppress(OSError):
                self._stream.write(f"{text}\n")

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


@functools.cache
def _bar() -> type:
    from tqdm import tqdm  # a machine that draws no bar has no need of it

    class Bar(tqdm):
        """Refreshed where its work is done, and ever more seldom in a file."""

        mininterval: float
        monitor_interval = 0  # no thread beside it

        def __iter__(self) -> Iterator:
            with self:
                for item in self.iterable:
                    yield item
                    self.update()

        def display(self, *args: Any, **options: Any) -> bool | None:
            shown = super().display(*args, **options)
            if not self.fp.isatty():
                self.mininterval = min(2 * self.mininterval, SELDOM)
            return shown

    return Bar


def as_called(text: str) -> str:
    """The commands in it as the program itself was called: `vqdit sample` of who wrote
    `vqdit`, in whose folder there may be another `train.py`."""
    if os.path.basename(sys.argv[0]) != "vqdit":
        return text
    name = lambda found: f"vqdit {found[1].replace('_', '-')}"
    return re.sub(r"python -m train\.(\w+)", name, text)


def say(message: str) -> None:
    """Writes one line, above the bar if there is one."""
    if not speaks():
        return
    message = as_called(message)
    with contextlib.suppress(OSError):  # a full disk is no reason to stop
        try:
            from tqdm import tqdm
        except ModuleNotFoundError:  # then there is no bar
            print(message, file=sys.stderr)
        else:
            tqdm.write(message, file=sys.stderr)


def progress(
    items: Iterable | None = None,
    doing: str = "",
    total: int | None = None,
    unit: str = "it",
    start: int = 0,
    silent: float | None = None,
) -> Any:
    """The items, with word of how far they have come; or a bar whose `update()` is
    called. Used in a `with` the bar is gone before an error is printed.

    total: how many there are, where the items do not say. start: how many are done.
    silent: seconds before the first word; None for SILENT.
    """
    silent, terminal = SILENT if silent is None else silent, sys.stderr.isatty()
    return _bar()(
        items,
        doing,
        total,
        initial=start,
        unit=unit,
        leave=False,
        delay=silent,
        mininterval=SILENT if silent else 0.5,
        miniters=1,
        # As it stands: `say` knows by it which bar its line goes above.
        file=sys.stderr if terminal else _Lines(sys.stderr),
        dynamic_ncols=terminal,
        ncols=None if terminal else 88,
        disable=not speaks(),
    )
