"""Files and folders that are written whole or not at all."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path


def write(path: Path, figures: dict) -> None:
    """JSON, whole or not at all."""
    write_bytes(path, (json.dumps(figures, indent=1) + "\n").encode())


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file whole or not at all; makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        partial.write_bytes(data)
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
