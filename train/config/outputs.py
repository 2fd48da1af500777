"""Where a program writes: refused, in one line, before it begins what is long."""

import os
from pathlib import Path

from train.errors import BadInput


def out_file(word: str | Path, *suffixes: str) -> Path:
    """A file of one of these suffixes, which replaces one that is there.

    Raises BadInput for another suffix, and where no file can be written.
    """
    path = Path(word)
    if path.suffix not in suffixes:
        raise BadInput(f"--out={path}: write a {' or '.join(suffixes)}")
    if path.is_dir():
        raise BadInput(f"--out={path} is a folder; write a file")
    return _reached(path, path)


def out_folder(word: str | Path, there: bool = False) -> Path:
    """A new folder, or one that may be `there`.

    Raises BadInput where one is that may not, and where no folder can be.
    """
    path = Path(word)
    if path.exists() and not path.is_dir():
        raise BadInput(f"--out={path} is a file; write a folder")
    if path.exists() and not there:
        raise BadInput(f"--out={path} is there; remove it, or write a new folder")
    return _reached(path, path / "file")


def _reached(path: Path, file: Path) -> Path:
    """The path, where a file of its can be written: the first folder above that is
    there allows it."""
    above = next(each for each in file.absolute().parents if each.exists())
    if not above.is_dir():
        raise BadInput(f"--out={path}: {above} is a file; write another")
    if not os.access(above, os.W_OK | os.X_OK):
        raise BadInput(f"--out={path}: {above} cannot be written to; write another")
    return path
