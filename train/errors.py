"""What a program says when it was asked for something it cannot do."""

import contextlib
import ctypes
import dataclasses
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from train.progress import as_called

# mallopt's parameters in glibc's malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8


class BadInput(ValueError):
    """A request that cannot be met: what was wrong, where, and what to write.

    The message is one line, because `run` prints it as it stands.
    """


class Unreadable(ValueError):
    """A file that does not hold what is looked for; the message says why.

    Readers raise it without the file's name; who called them puts that in front.
    """


@contextlib.contextmanager
def blame(at: str = "") -> Iterator[None]:
    """What a module refuses becomes a BadInput that names the field, if any."""
    try:
        yield
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"{at}: {error}" if at else str(error)) from error


@contextlib.contextmanager
def of_stream(name: str, sources: Mapping[str, Any]) -> Iterator[None]:
    """What is refused of one stream's data says data.NAME where it says data, unless
    all streams are of the same."""
    try:
        yield
    except BadInput as error:
        data = sources[name]
        if all(each == data for each in sources.values()):
            raise
        fields = "|".join(field.name for field in dataclasses.fields(data))
        own = rf"(?<![\w./\\-])data(?=:|\.(?:{fields})\b)"
        raise BadInput(re.sub(own, f"data.{name}", str(error))) from error


def one_line(error: BaseException) -> str:
    """What an error says, in one line; its class where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def briefly(error: BaseException) -> str:
    """The same of an error that is not ours, whose words may be of any length."""
    line = one_line(error)  # vqdit.fields.told, which would import JAX
    return line if len(line) <= 300 else f"{line[:297]}..."


def some(names: Sequence[str], count: int = 3) -> str:
    """The first of these names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(name[:200] for name in names[:count]) + more


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Raises Unreadable, `what` and the words of an error inside: libraries raise
    anything on a broken file. What is ours passes through."""
    try:
        yield
    except (BadInput, Unreadable):
        raise
    except Exception as error:
        raise Unreadable(f"{what} ({briefly(error)})") from error


@contextlib.contextmanager
def refused(what: str, said: Callable[[Unreadable], str]) -> Iterator[None]:
    """As `reading`, of what a whole set hangs on: a BadInput, which is `said` of it."""
    try:
        with reading(what):
            yield
    except Unreadable as error:
        raise BadInput(said(error)) from error


def arguments(argv: Sequence[str] | None) -> Sequence[str]:
    """Those of the process, without the program's name, where None are given."""
    return sys.argv[1:] if argv is None else argv


def run(
    main: Callable[[Sequence[str]], object], argv: Sequence[str] | None = None
) -> None:
    """Calls `main` on the command line's arguments.

    A `BadInput` becomes one line on stderr, `error: <line>`, and exit status 2. So does
    what the system refuses: a full disk, a name too long, a folder that one may not
    write to. SIGINT and SIGTERM are one line, and 130 or 143; a pipe that nobody reads
    any more ends the program in silence. Anything else is a defect of ours and keeps
    its traceback.

    First, on a CPU, the C library is told to keep freed memory: see `_keep_heap`.
    Before the options that --help lists stands what the program's file says it is.

    `argv`: the arguments without the program's name; None takes `sys.argv[1:]`.
    """
    _open_streams()
    _keep_heap()
    for number, own in _BEFORE.items():
        if signal.getsignal(number) is _left:
            signal.signal(number, own)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name from disk need not be text, and is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    argv = arguments(argv)
    if {"--help", "-h"} & set(argv):
        print(as_called(sys.modules[main.__module__].__doc__ or ""))
    try:
        with _interruptible():
            main(argv)
    except BadInput as error:
        _refuse(error)
    except BrokenPipeError:  # whoever read what is printed has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno is None:
            raise
        _refuse(error)
    except KeyboardInterrupt as error:
        # Not through the interpreter's end: threads of a computation that is under way
        # may outlive what they compute with, and the process would crash.
        number = signal.SIGTERM if isinstance(error, _Terminated) else signal.SIGINT
        print(f"stopped by {number.name}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(128 + number)


def importing() -> None:
    """From here to `run` SIGINT and SIGTERM are one line, and 130 or 143: a program's
    imports take seconds, and nothing has begun that would have to be tidied up."""
    _open_streams()
    for number, own in _BEFORE.items():
        if signal.getsignal(number) is own:
            signal.signal(number, _left)


def _open_streams() -> None:
    """What a program was started without, stdout or stderr (2>&-), goes nowhere; the
    next file that is opened would have its number, and all that libraries say."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        nowhere = os.open(os.devnull, os.O_RDWR)
        try:
            os.fstat(number)
        except OSError:
            os.dup2(nowhere, number)
        mode = "w" if number else "r"
        setattr(sys, name, open(nowhere, mode, closefd=nowhere > 2))


def _left(number: int, _) -> NoReturn:
    print(f"stopped by {signal.Signals(number).name}", file=sys.stderr, flush=True)
    os._exit(128 + number)


# What a process has where nobody has set another handler.
_BEFORE: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


def _refuse(error: Exception) -> NoReturn:
    print(f"error: {as_called(one_line(error))}", file=sys.stderr)
    sys.exit(2)


class _Terminated(KeyboardInterrupt):
    """SIGTERM; what SIGINT is to Python."""


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A part that SIGTERM leaves as SIGINT does, so that it tidies up behind itself.

    Training sets handlers of its own, and JAX does for several processes.
    """

    def stop(*_):
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _keep_heap() -> bool:
    """Keeps freed memory in the process instead of giving it back to the system.

    XLA:CPU allocates a program's temporary buffer anew at every call. glibc maps and
    unmaps large buffers, so every step of training touches fresh pages: for a DiT-S/2
    a quarter of a million page faults a step. With glibc only, only before the first
    computation, and not where an accelerator computes or VQDIT_KEEP_HEAP=0 is set: the
    price is memory that is never given back. Returns whether it was done.
    """
    accelerated = os.environ.get("JAX_PLATFORMS", "cpu") != "cpu" or any(
        map(os.path.exists, ("/dev/nvidia0", "/dev/accel0", "/dev/vfio"))
    )
    wanted = os.environ.get("VQDIT_KEEP_HEAP", "1") == "1"
    if accelerated or not wanted or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {ARENA_MAX: 1, MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**28}
    return all([mallopt(name, value) for name, value in settings.items()])
