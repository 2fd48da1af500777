"""Where a program writes: refused, in one line, before it begins what is long."""

import os
from collections.abc import Iterable
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


def check_free(
    folder: Path, files: Iterable[str] = (), folders: Iterable[str] = ()
) -> None:
    """Raises BadInput where one of a folder's names cannot become the file, or folder,
    that a program will write there in the place of any other."""
    above = _first_there(folder / "file")
    if not above.is_dir() or not _writable(above):
        raise BadInput(f"{folder}: {above} is no folder one can write to")
    wanted = {name: False for name in files} | {name: True for name in folders}
    for name, is_folder in wanted.items():
        path = folder / name
        # A pipe would be waited for; a device, such as /dev/null, is as good as a file.
        if path.is_fifo() or path.exists() and path.is_dir() != is_folder:
            kind = "folder" if path.is_dir() else "pipe" if path.is_fifo() else "file"
            there = "folder" if is_folder else "file"
            raise BadInput(
                f"{path} is a {kind}, and a {there} is written there; remove it"
            )
        if is_folder and path.is_symlink() and not path.exists():
            raise BadInput(
                f"{path} leads to {os.path.realpath(path)}, which is not there; bring "
                f"it back, or remove the link"
            )


def _reached(path: Path, file: Path) -> Path:
    """The path, where a file of its can be written: the first folder above that is
    there allows it."""
    above = _first_there(file)
    if not above.is_dir():
        raise BadInput(f"--out={path}: {above} is a file; write another")
    if not _writable(above):
        raise BadInput(f"--out={path}: {above} cannot be written to; write another")
    return path


def _first_there(file: Path) -> Path:
    """What there is already above a file, or will have to be a folder."""
    return next(each for each in file.absolute().parents if each.exists())


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)
