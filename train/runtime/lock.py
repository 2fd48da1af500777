"""One run at a time in a folder, and what a run that was killed had left half done."""

import contextlib
import datetime
import fcntl
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from train.config.outputs import check_free
from train.errors import BadInput
from train.progress import say

# The name that it has had from the first: a run of an older version keeps us out, too.
FILE = "checkpoints.lock"
# What `files.write_bytes`, `files.new_folder` and `vqdit.save` call what is not whole
# yet, or makes room for it.
FRESH = re.compile(r".+\.\d+\.new|\..+\.[0-9a-f]{32}")
OLD = re.compile(r"\.(.+)\.(\d+\.old|old\.[0-9a-f]{32})")


class Taken(BadInput):
    """Another run is in the folder."""


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keeps other runs out of the folder, on all machines that see it.

    The system lets go of the lock however the process ends. Raises Taken, naming who is
    there, and writes nothing, where another run is.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        check_free(workdir, (FILE,))
        descriptor = os.open(workdir / FILE, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise BadInput(f"--workdir={workdir} cannot be written: {error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Taken(
                f"another process is training in {workdir}{_holder(descriptor)}; wait "
                f"for it, stop it, or write another --workdir"
            ) from None
        now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        mine = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(mine).encode(), 0)
        yield
        os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    """Who holds the lock, as it wrote there; "" of an older version."""
    try:
        held = json.loads(os.pread(descriptor, 1000, 0))
        return " ({process} on {host}, since {since})".format(**held)
    except (ValueError, LookupError, TypeError):
        return ""


def sweep(folder: Path) -> None:
    """Removes what killed processes left half written in a folder that is locked, and
    puts back what one of them had moved away to make room."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if found := OLD.fullmatch(path.name):
            whole = folder / found[1]
            if not whole.exists():
                path.rename(whole)
                say(f"{whole} is back, as it was before a run was killed")
                continue
        elif not FRESH.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
