"""Files and folders are written whole or not at all, a link's where it leads."""

import contextlib
import fcntl
import json
import math
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


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
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(data)
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with _named(path), open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
    that is not reached; what is there goes once it does. Raises OSError where another
    process of this number, in a container of the same host name, is writing it."""
    path = Path(os.path.realpath(path))
    fresh = path.with_name(f"{_begun(path)}{os.getpid()}.new")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    _remove_left(fresh, unknown=True)
    fresh.mkdir(parents=True)
    try:
        with _owned(fresh):
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
        shutil.rmtree(fresh, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def sweep_beside(path: str | os.PathLike) -> None:
    """Removes what processes of this machine that were killed had begun of a
    `new_folder`: locks of folders on a shared disk are not seen by other machines."""
    path = Path(os.path.realpath(path))
    mine = re.escape(_begun(path))
    for each in path.parent.iterdir() if path.parent.is_dir() else ():
        if re.fullmatch(rf"{mine}\d+\.new", each.name):
            _remove_left(each, unknown=False)


def _begun(path: Path) -> str:
    """How the names begin of what this machine writes for `path`."""
    return f".{path.name}.{socket.gethostname()}."


def _remove_left(folder: Path, unknown: bool) -> None:
    """Removes a folder, if there is one, that no living process owns, or `unknown`:
    also where the system does not say."""
    with contextlib.suppress(OSError), _owned(folder) as ours:
        if ours or (unknown and ours is None):
            shutil.rmtree(folder)


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[bool | None]:
    """Whether the folder is now this process's alone; None where the system knows no
    such locks. It lets go of it however the process ends, so a number alone, which
    another container may have given away, too, is not asked."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        ours: bool | None = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            ours = False
        except OSError:
            ours = None
        yield ours
    finally:
        os.close(descriptor)


def write_folder(path: str | os.PathLike, files: Mapping[str, bytes]) -> None:
    """Writes a folder of files whole or not at all; what is there goes once it is."""
    with new_folder(path) as fresh:
        for name, data in files.items():
            (fresh / name).write_bytes(data)
