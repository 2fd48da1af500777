"""How much memory a file may take: one rule for everything that decodes one.

A few megabytes of zeros, packed, are as many gigabytes unpacked. So every reader asks
a file's header how much it will hold, before it makes room for that, and decodes what
has no header that says it piece by piece, asking here as it grows.
"""

import os

from train.errors import BadInput, Unreadable

# Bytes that any file may take decoded, and as a multiple of those that it has. Speech
# at 8 kbps, as 32-bit floats at 48 kHz, takes 192 times its size; deflate makes up to
# 1032 times its size of nothing.
FREE, GROWTH = 2**29, 200
# Of films, whose codecs say only what changes: 1080p at 30 frames and 1 Mbit a second.
FILM = 1500
# Bytes of one signal, however large its file: an hour of sound in stereo takes a sixth
# of that, a scan of 1000 x 1000 x 1000 voxels half. Sets of many signals may be larger.
LARGEST = 2**33
OWN = "VQDIT_MOST_GB"  # in the environment: gigabytes in the place of these three
MOST_CLASSES = 10**6  # that a number in a file is believed to be the class of
BLOCK = 2**20  # bytes that are unpacked at a time


def room(stored: int, alone: bool = True, growth: int | None = None) -> float:
    """Bytes that a file of `stored` bytes may take; alone: it is one signal. growth: in
    the place of GROWTH."""
    if own := os.environ.get(OWN, ""):
        try:
            most = 1e9 * float(own)
        except ValueError:
            most = 0.0
        if not most > 0:
            raise BadInput(f"{OWN}={own}: write gigabytes, such as 4")
        return most
    most = max(FREE, (growth or GROWTH) * stored)
    return min(most, LARGEST) if alone else most


def check_decoded(
    size: float,
    stored: int,
    alone: bool = True,
    advice: str = "make it smaller",
    growth: int | None = None,
) -> None:
    """Raises Unreadable where so many bytes are more than the `room` of a file.

    advice: what else can be done about it than to allow it.
    """
    most = room(stored, alone, growth)
    if not size <= most:
        enough = -(-min(size, 10**30) // 1e8) / 10  # gigabytes, such as 1.3
        raise Unreadable(
            f"takes {_gigabytes(size)} decoded, more than the {_gigabytes(most)} that "
            f"a file of {_gigabytes(stored)} may; {advice}, or set "
            f"{OWN}={enough:g} if you trust it"
        )


def _gigabytes(size: float) -> str:
    size = min(size, 10**30)  # a header may say numbers that no float holds
    for unit, of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= of:
            return f"{size / of:.3g} {unit}"
    return f"{size:.0f} bytes"
