"""Files and folders are written whole or not at all, a link's where it leads."""

import contextlib
import fcntl
import functools
import itertools
import json
import math
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

COUNT = itertools.count()
LIVING: set[Path] = set()  # of this process, whatever a disk says


def write(path: str | os.PathLike, figures: Mapping[str, Any]) -> None:
    """JSON, whole or not at all."""
    write_bytes(path, (as_json(figures) + "\n").encode())


def as_json(figures: Mapping[str, Any]) -> str:
    """Figures as text that any reader of JSON takes: see `finite`."""
    return json.dumps(finite(figures), indent=1, allow_nan=False)


def finite(found: Any) -> Any:
    """With None for what is no finite number, of which JSON has none."""
    if isinstance(found, Mapping):
        return {name: finite(each) for name, each in found.items()}
    if isinstance(found, list | tuple):
        return [finite(each) for each in found]
    if isinstance(found, float) and not math.isfinite(found):
        return None
    return found


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file whole or not at all; makes the folder.

    A device or a pipe, such as /dev/stdout, is written to: a file in its place would be
    in everybody's way.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(data)
        return
    with becoming(path) as fresh:
        with _named(path), open(fresh, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """What the system says of no file, as of a full disk, it says of this one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def append(file: int, data: bytes) -> None:
    """Adds to the end of an open file, all of it or nothing; raises OSError."""
    size = os.fstat(file).st_size
    try:
        while data:  # of a disk that is filled by it a part is taken first
            data = data[os.write(file, data) :]
    except OSError:
        os.truncate(file, size)
        raise


@contextlib.contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A folder to write into, which becomes `path` in the end, or nothing at all where
    that is not reached; what is there goes once it does."""
    path = Path(os.path.realpath(path))
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        with becoming(path, folder=True) as fresh:
            with _named(path):
                yield fresh
            if path.exists():
                path.rename(old)
            fresh.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def becoming(path: Path, folder: bool = False) -> Iterator[Path]:
    """A file, or folder, of a hidden name beside the path, to be written and renamed to
    it. It goes in the end where it was not, and where its process is killed by the next
    one of this machine that writes into the same folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # who may not look may still write
        _sweep(path.parent)
    for number in COUNT:
        name = f".{path.name[:40]}.{socket.gethostname()}.{os.getpid()}.{number}.new"
        fresh = path.with_name(name)
        with contextlib.ExitStack() as last:
            LIVING.add(fresh)
            last.callback(LIVING.discard, fresh)
            try:
                fresh.mkdir() if folder else fresh.touch(exist_ok=False)
            except FileExistsError:
                continue
            ours = last.enter_context(_owned(fresh))
            if ours is False or not fresh.exists():
                continue  # it was swept away before it was owned
            last.callback(_remove, fresh)
            yield fresh
            return


@functools.cache
def _sweep(folder: Path) -> None:
    """Removes, once, what processes of this machine that were killed had begun in the
    folder: locks on a shared disk are not seen by other machines. Where a disk knows
    none, what one of this process's number had, as in a container at every start."""
    host = re.escape(socket.gethostname())
    for path in folder.iterdir():
        found = re.fullmatch(rf"\..*\.{host}\.(\d+)(\.\d+)?\.new", path.name)
        if found and path not in LIVING:
            with _owned(path) as ours:
                if ours or (ours is None and int(found[1]) == os.getpid()):
                    _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _owned(path: Path) -> Iterator[bool | None]:
    """Whether the file or folder is now this process's alone; None where the system
    does not say. It lets go of it however the process ends, so a number alone, which
    another container may have given away, too, is not asked."""
    with contextlib.ExitStack() as last:
        try:
            how = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(path, how)
            last.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours: bool | None = True
        except BlockingIOError:
            ours = False
        except OSError:
            ours = None
        yield ours


def write_folder(path: str | os.PathLike, files: Mapping[str, bytes]) -> None:
    """Writes a folder of files whole or not at all; what is there goes once it is."""
    with new_folder(path) as fresh:
        for name, data in files.items():
            (fresh / name).write_bytes(data)
