"""Files as bytes; files and folders are written whole or not at all."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.errors import Unreadable


def stored(path: Path) -> bytes:
    """What a file holds."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(error.strerror or str(error) or "cannot be opened") from error


def write(path: str | os.PathLike, figures: dict, **how: Any) -> None:
    """JSON, whole or not at all."""
    write_bytes(path, (json.dumps(figures, **{"indent": 1} | how) + "\n").encode())


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file whole or not at all; makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_folder(path: str | os.PathLike, files: Mapping[str, bytes]) -> None:
    """Writes a folder of files whole or not at all; what is there goes once it is."""
    path = Path(path)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        fresh.mkdir(parents=True)
        for name, data in files.items():
            (fresh / name).write_bytes(data)
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
