"""Frames of clips as they are shown: upright, opaque, each for its own time."""

import contextlib
import dataclasses
import functools
import io
import logging
import math
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from train.errors import Unreadable, reading
from train.modalities.files.ends import check_film
from train.modalities.files.limits import FILM, check_decoded
from train.modalities.files.pictures import (
    BYTES,
    STILLS,
    bands,
    check_size,
    dim,
    opaque,
    open_picture,
    read_picture,
)
from train.modalities.files.stored import (
    File,
    for_libraries,
    natural,
    opened_file,
    size_of,
    stored,
)
from vqdit.shapes import Float, Int, UInt8

log = logging.getLogger(__name__)

RATE = 10.0  # frames a second of a clip that does not say, as browsers have it
SHORTEST = 0.02  # seconds of a GIF's frame; players take less for a mistake
# Frames that decoders hold at once: what is on the screen, what was, what comes; and
# those that others are made of.
HELD_GIF, HELD_VIDEO = 3, 16
YUV = 1.5  # bytes of a pixel that a decoder of films holds
TICK = 1e-6  # seconds that a .vqd file and an MP4 count times in


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """frames: uint8 (h, w, c) each. times: seconds at which each begins to be shown,
    from 0, and at which the last one ends, (n + 1,); None where nothing says it."""

    frames: list[UInt8[np.ndarray, "h w c"]]
    times: Float[np.ndarray, "n1"] | None = None


def rate_of(times: np.ndarray | None) -> float:
    """Frames a second on average, 0 where nothing says it."""
    return 0.0 if times is None else (len(times) - 1) / float(times[-1])


def shown(
    times: Float[np.ndarray, "n1"], moments: Float[np.ndarray, "m"]
) -> Int[np.ndarray, "m"]:
    """Which frame is on the screen at each moment."""
    at = np.searchsorted(times[:-1], moments + TICK, side="right") - 1
    return np.maximum(at, 0)


def even(count: int, rate: float) -> Float[np.ndarray, "n1"]:
    """Times of frames that last equally long."""
    return np.arange(count + 1) / rate


def pack_times(times: Float[np.ndarray, "n1"] | None) -> bytes:
    """Times that are not even, to a TICK; nothing for others."""
    if times is None or np.allclose(times, even(len(times) - 1, 1) * times[1], 0, TICK):
        return b""
    return zlib.compress(np.diff(np.rint(times / TICK)).astype("<u4").tobytes(), 9)


def unpack_times(extra: bytes, count: int, rate: float) -> Float[np.ndarray, "n1"]:
    """The inverse of `pack_times` for a clip of so many frames a second on average."""
    if not extra:
        return even(count, rate)
    steps = np.frombuffer(zlib.decompress(extra), "<u4")
    return np.concatenate([[0.0], np.cumsum(steps)]) * TICK


# What makes a frame's pixels, until the next one is asked for; the seconds at which it
# begins and that it lasts, nan where nothing says them.
Frame = tuple[Callable[[], UInt8[np.ndarray, "h w c"]], float, float]


def read_clip(path: File) -> Clip:
    """A file's frames, or those of a folder; Unreadable names the picture of one."""
    found, size, still = [], 0, path.is_dir() or is_gif(path)
    growth = None if still else FILM
    stored = sum(map(size_of, stills(path))) if path.is_dir() else size_of(path)
    advice = "cut it into shorter ones"
    check = lambda size: check_decoded(size, stored, advice=advice, growth=growth)
    if still and not path.is_dir():  # a GIF, whose frames are counted undecoded
        with reading("no GIF file"), _open_gif(path) as gif:
            check(3 * gif.n_frames * gif.width * gif.height)
    for pixels, start, length in frames_of(path):
        frame = pixels()
        found.append((frame, start, length))
        size += frame.nbytes
        check(size)
    if not found:
        raise Unreadable("it holds no frame")
    frames, starts, lasting = zip(*found, strict=True)
    return Clip(list(frames), times_of(path, starts, lasting))


def is_gif(path: File) -> bool:
    """Rows of a saved set have no suffix, but begin as their kind does."""
    kind = path.suffix.lower()
    if kind:
        return kind == ".gif"
    with opened_file(path) as file:
        return file.read(4) == b"GIF8"


def frames_of(path: File) -> Generator[Frame, None, None]:
    """Those of a file, or of a folder of pictures, one after the other."""
    if path.is_dir():
        for still in stills(path):
            yield functools.partial(_picture, still), np.nan, np.nan
    elif is_gif(path):
        from PIL import ImageSequence  # who reads no picture has no need of it

        with reading("no GIF file"), _open_gif(path) as gif:
            check_size(gif.width, gif.height, size_of(path), HELD_GIF * BYTES)
            # Each frame of a GIF changes a part of the one before; Pillow puts it in.
            for frame in ImageSequence.Iterator(gif):
                pixels = lambda frame=frame: opaque(bands(frame, "RGBA"))
                yield pixels, np.nan, frame.info.get("duration", 0) / 1000
    else:
        with open_video(path) as (file, stream):
            stream.thread_type = "AUTO"
            tick = float(stream.time_base)
            for frame in file.decode(stream):
                start = np.nan if frame.pts is None else frame.pts * tick
                yield (
                    functools.partial(upright, frame, stream),
                    start,
                    frame.duration * tick,
                )


def times_of(
    path: File, starts: Sequence[float], lasting: Sequence[float]
) -> Float[np.ndarray, "n1"] | None:
    """Of Clip, of frames that begin and last so."""
    if path.is_dir():
        return None
    if is_gif(path):
        if not any(lasting):
            return None
        lasting = [each if each >= SHORTEST else 1 / RATE for each in lasting]
        return np.concatenate([[0.0], np.cumsum(lasting)])
    with open_video(path) as (_, stream):
        average, tick = float(stream.average_rate or 0), float(stream.time_base)
    return even_times(np.array(starts), lasting[-1], average, tick)


def stills(folder: File) -> list[Path]:
    """The pictures of a folder, in the order of their names and of numbers in them."""
    if not isinstance(folder, Path):  # of what lies in another file none is a folder
        return []
    found = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in STILLS and not path.name.startswith(".")
    )
    return sorted(found, key=lambda path: natural(path.name))


def _picture(path: Path) -> UInt8[np.ndarray, "h w c"]:
    try:
        picture = read_picture(stored(path))
    except Unreadable as error:
        raise Unreadable(f"{path.name}: {error}") from error
    if dim(picture.top):
        warn_once(
            f"{path.parent}: pictures of 16 bits, of which some use few and are next "
            "to black; write them as 8 bits"
        )
    return picture.pixels


@functools.cache
def warn_once(line: str) -> None:
    log.warning("%s", line)


def _open_gif(path: File) -> Any:
    return open_picture(for_libraries(path), formats=("GIF",))


@contextlib.contextmanager
def open_video(path: File) -> Iterator[tuple[Any, Any]]:
    """(a container, its first stream of pictures); Unreadable says what is not so."""
    import av  # slow to import, and of use only here

    with reading("not a whole video"), av.open(for_libraries(path)) as file:
        if not file.streams.video:
            raise Unreadable("holds no video")
        check_film(path, file.format.name.split(",")[0])
        stream = file.streams.video[0]
        width = math.ceil(stream.width * _wide(stream))
        check_size(width, stream.height, size_of(path), HELD_VIDEO * YUV, FILM)
        yield file, stream


def upright(frame: Any, stream: Any) -> UInt8[np.ndarray, "h w 3"]:
    width = max(1, round(frame.width * _wide(stream)))
    check_size(width, frame.height, stream.container.size, 3, FILM)
    pixels = frame.to_ndarray(format="rgb24", width=width, height=frame.height)
    # A phone held upright stores its pictures lying, and how to turn them; a camera on
    # the side of its screen may mirror them, too.
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return pixels if matrix is None else displayed(pixels, np.frombuffer(matrix, "i4"))


def displayed(
    pixels: UInt8[np.ndarray, "h w c"], matrix: Int[np.ndarray, "9"]
) -> UInt8[np.ndarray, "h2 w2 c"]:
    """Turned by the nearest quarter, and mirrored, as a file's display matrix says:
    what is at x, y is shown at m0 x + m3 y, m1 x + m4 y, from wherever that begins."""
    a, b, _, c, d = (int(each) for each in matrix[:5])
    right, down = a, d
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, right, down = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


def _wide(stream: Any) -> float:
    """How much wider than high a pixel is."""
    return float(stream.sample_aspect_ratio or 1) or 1.0


def even_times(
    starts: np.ndarray, last: float, average: float, tick: float
) -> np.ndarray | None:
    """Of frames that begin at `starts`, of which the last one lasts so long.

    tick: what the file's times are rounded to, or a millisecond, in which many count.
    Frames that are even to that are even.
    average: frames a second where the file does not give them times.
    """
    count, steps = len(starts), np.diff(starts)
    if not np.isfinite(starts).all() or (steps <= 0).any() or count < 2:
        return even(count, average) if average and count else None
    step = float(starts[-1] - starts[0]) / (count - 1)
    within = min(max(tick, 1e-3), step / 4)
    if np.abs(starts - starts[0] - np.arange(count) * step).max() <= within:
        near = average and abs(average * step - 1) < 1e-3  # which is not rounded
        return even(count, average if near else 1 / step)
    end = starts[-1] + (last or float(np.median(steps)))
    return np.append(starts, end) - starts[0]


def write_gif(frames: Sequence[np.ndarray], times: Float[np.ndarray, "n1"]) -> bytes:
    """RGB frames (h, w, 3) for these times, to a GIF's hundredths of a second."""
    from PIL import Image  # who writes no picture has no need of it

    ends = np.rint(times * 100)
    lasting = np.maximum(np.diff(ends), round(SHORTEST * 100)) * 10
    first, *rest = (Image.fromarray(frame) for frame in frames)
    file = io.BytesIO()
    first.save(
        file,
        "gif",
        save_all=True,
        append_images=rest,
        duration=lasting.astype(int).tolist(),
        loop=0,
    )
    return file.getvalue()


def write_mp4(frames: Sequence[np.ndarray], times: Float[np.ndarray, "n1"]) -> bytes:
    """RGB frames (h, w, 3) for these times, H.264 in good quality."""
    import av

    file, ticks = io.BytesIO(), np.rint(times / TICK).astype(int).tolist()
    base = Fraction(1, round(1 / TICK))
    with av.open(file, "w", format="mp4") as out:
        rate = Fraction((len(ticks) - 1) / times[-1]).limit_denominator(1001)
        stream = out.add_stream("libx264", rate=rate, options={"crf": "10"})
        stream.height, stream.width = frames[0].shape[:2]
        # Colour at full resolution, which also allows odd sizes.
        stream.pix_fmt = "yuv444p"
        stream.time_base = stream.codec_context.time_base = base
        for pixels, start, end in zip(frames, ticks, ticks[1:], strict=False):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base, frame.duration = start, base, end - start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def alike(frames: Sequence[np.ndarray]) -> UInt8[np.ndarray, "f h w c"]:
    """Pictures as one clip: opaque, and grey only where all are."""
    frames = [opaque(frame) for frame in frames]
    sizes = {frame.shape[:2]: None for frame in frames}
    if len(sizes) > 1:
        (a, b), (c, d), *_ = sizes
        raise Unreadable(f"it has frames of {a}x{b} and of {c}x{d}; write one size")
    channels = max(frame.shape[-1] for frame in frames)
    grown = [np.repeat(f, channels // f.shape[-1], axis=-1) for f in frames]
    return np.stack(grown)
