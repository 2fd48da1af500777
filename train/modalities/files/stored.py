"""Files as bytes, wherever they lie, and their names."""

import dataclasses
import io
import os
import re
import textwrap
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from train.errors import Unreadable

# Samples that are made of any file, and as a multiple of those that it holds.
MOST_MADE, LARGEST_GROWTH = 2**20, 100


@dataclasses.dataclass(frozen=True)
class Member:
    """A file that lies in another one, as readers take it in the place of a path.

    name: its path in there. read_bytes: what it holds; OSError or Unreadable.
    """

    name: str
    read_bytes: Callable[[], bytes]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def is_dir(self) -> bool:
        return False

    def __str__(self):
        return self.name


File = Path | Member


def stored(path: File) -> bytes:
    """What a file holds."""
    check_regular(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(error.strerror or str(error) or "cannot be opened") from error


def for_libraries(path: File) -> str | io.BytesIO:
    """What libraries open that read files themselves."""
    check_regular(path)
    return str(path) if isinstance(path, Path) else io.BytesIO(stored(path))


def check_regular(path: File) -> None:
    """Raises Unreadable for what is there and has no end: a device, a pipe."""
    if isinstance(path, Path) and path.exists() and not path.is_file():
        raise Unreadable("is no file" if path.is_dir() else "is a device or a pipe")


def opened_file(path: File) -> BinaryIO:
    """A file to read from, as far as one wants."""
    check_regular(path)
    if not isinstance(path, Path):
        return io.BytesIO(stored(path))
    try:
        return path.open("rb")
    except OSError as error:
        raise Unreadable(error.strerror or str(error) or "cannot be opened") from error


def size_of(path: File) -> int:
    """How many bytes a file has."""
    return path.stat().st_size if isinstance(path, Path) else len(stored(path))


def stem_of(file: str, suffixes: Collection[str]) -> str:
    """A file's path without its suffix, the longest of these: "a" of a.nii.gz.

    Its letters are composed (NFC), as they are typed: a Mac, and archives made on one,
    write those with marks as two, and would name another file than a table does.
    """
    ends = [end for end in suffixes if file.lower().endswith(end)]
    bare = file[: len(file) - max(map(len, ends), default=0)]
    return unicodedata.normalize("NFC", bare)


def natural(name: str) -> tuple[list[Any], str]:
    """A key to sort names by in which numbers count: 2 before 10."""
    parts: list[Any] = list(re.split("([0-9]+)", name))
    # By their lengths, then digits: Python reads no int of very many.
    bare = (digits.lstrip("0") for digits in parts[1::2])
    parts[1::2] = [(len(digits), digits) for digits in bare]
    return parts, name


def listed(names: Iterable[str]) -> str:
    """Names that a file holds, in a line, as many as one reads."""
    return textwrap.shorten(printable(", ".join(names)), 400, placeholder=" ...")


def from_home(path: str | os.PathLike) -> Path:
    """A path that may begin at home. One of pathlib's own fails where ~name is nobody's
    home; here that is a folder of this name."""
    return Path(os.path.expanduser(path))


def printable(name: str) -> str:
    """A name from disk as text: bytes that are no UTF-8 are escaped, and what a file's
    JSON may say that is no character."""
    try:
        stored = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        stored = name.encode("utf-8", "backslashreplace")
    return stored.decode("utf-8", "backslashreplace")


def kind_of(name: str) -> str:
    """What a file that is left out is counted under: ".heic"."""
    return printable(Path(name).suffix.lower()) or "without a suffix"


def percent(share: float) -> str:
    """With two digits, or that it is less than these can say."""
    return "less than 0.01%" if 0 < share < 5e-5 else f"{share:.2%}"


def counted(kinds: Mapping[str, int]) -> str:
    """6 .heic, 1 .txt: the most frequent first."""
    most = sorted(kinds.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{n} {kind}" for kind, n in most)


def check_growth(count: float, of: int, why: str) -> None:
    """Raises Unreadable where a number in a file would make `count` samples of as few.

    Memory is for what a file holds, whatever its header claims.
    """
    if not count <= max(MOST_MADE, LARGEST_GROWTH * of):
        raise Unreadable(f"{why}, which would make {count:.3g} samples of {of}")
