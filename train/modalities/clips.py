"""Frames of clips as they are shown: upright, opaque, each for its own time."""

import contextlib
import dataclasses
import functools
import io
import logging
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageSequence

from train.errors import BadInput, Unreadable, one_line, reading
from train.modalities.files import File, natural, opened, stored
from train.modalities.image import STILLS, decode_picture, opaque

log = logging.getLogger(__name__)

RATE = 10.0  # frames a second of a clip that does not say, as browsers have it
SHORTEST = 0.02  # seconds of a GIF's frame; players take less for a mistake
# FFmpeg's containers in which a frame is found by its time: MP4, MOV, Matroska, WebM.
INDEXED = ("mov", "matroska")
TICK = 1e-6  # seconds that a .vqd file and an MP4 count times in


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """frames: uint8 (h, w, c) each. times: seconds at which each begins to be shown,
    from 0, and at which the last one ends, (n + 1,); None where nothing says it."""

    frames: list[UInt8[np.ndarray, "h w c"]]
    times: Float[np.ndarray, "n1"] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def rate(self) -> float:
        """Frames a second on average, 0 where nothing says it."""
        return rate_of(self.times)

    def pick(self, rows: Sequence[int]) -> list[UInt8[np.ndarray, "h w c"]]:
        """These frames, of ascending rows."""
        return [self.frames[row] for row in rows]


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
    """Where the frames of a video file are; they are decoded when they are asked for.

    stamps, keys: times of all frames, and of those that need no others, in the file's
    own ticks, ascending. times: of Clip.
    """

    path: File
    stamps: Int[np.ndarray, "n"]
    keys: Int[np.ndarray, "k"]
    times: Float[np.ndarray, "n1"] | None

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def rate(self) -> float:
        """Of Clip."""
        return rate_of(self.times)

    def pick(self, rows: Sequence[int]) -> list[UInt8[np.ndarray, "h w c"]]:
        """These frames, of ascending rows: what is on the screen at their times.

        Decoded from the nearest frame before that needs no others. Raises BadInput.
        """
        try:
            return self._picked(self.stamps[np.asarray(rows, int)].tolist())
        except (
            Exception
        ) as error:  # a broken file may raise anything from inside FFmpeg
            raise BadInput(
                f"{self.path}: cannot be decoded ({one_line(error)[:160]}); remove it"
            ) from error

    def _picked(self, wanted: list[int]) -> list[np.ndarray]:
        import av

        found, origin = [], wanted[0]
        with av.open(opened(self.path)) as file:
            stream = file.streams.video[0]
            while len(found) < len(wanted):
                key = self._key(origin)
                file.seek(key, stream=stream)
                before, begun = None, len(found)
                try:
                    for frame in file.decode(stream):
                        before = before or frame
                        while frame.pts >= wanted[len(found)]:
                            exact = frame.pts == wanted[len(found)]
                            found.append(_pixels(frame if exact else before, stream))
                            if len(found) == len(wanted):
                                return found
                        before = frame
                        # Nothing on the way to what comes next is of use.
                        moved = len(found) > begun
                        if moved and self._key(wanted[len(found)]) > frame.pts:
                            break
                    else:  # the file ends before
                        found.append(_pixels(before, stream))
                except av.error.FFmpegError as error:
                    # As players do, what is on the screen stays there.
                    _warn(f"{self.path} is broken ({one_line(error)})")
                    if before is None and key == self.keys[0]:
                        raise
                    if before is None:
                        origin = key - 1
                        continue
                    found.append(_pixels(before, stream))
                origin = wanted[min(len(found), len(wanted) - 1)]
        return found

    def _key(self, stamp: int) -> int:
        at = int(np.searchsorted(self.keys, stamp, side="right")) - 1
        return int(self.keys[max(at, 0)])


@functools.cache  # once a file
def _warn(line: str) -> None:
    log.warning("%s", line)


def rate_of(times: np.ndarray | None) -> float:
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


def read_clip(path: File) -> Clip:
    """A file's frames, or those of a folder; Unreadable names the picture of one."""
    if path.is_dir():
        return Clip([_picture(still) for still in stills(path)])
    clip = (_gif if path.suffix.lower() == ".gif" else _stream)(path)
    if not clip.frames:
        raise Unreadable("it holds no frame")
    return clip


def open_clip(path: File) -> Clip | Index:
    """A clip to cut examples from: of a video file its index alone, where its frames
    have times; of all else the frames."""
    if path.is_dir() or path.suffix.lower() == ".gif":
        return read_clip(path)
    return _index(path) or read_clip(path)


def stills(folder: Path) -> list[Path]:
    """The pictures of a folder, in the order of their names and of numbers in them."""
    found = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in STILLS and not path.name.startswith(".")
    )
    return sorted(found, key=lambda path: natural(path.name))


def _picture(path: Path) -> UInt8[np.ndarray, "h w c"]:
    try:
        return decode_picture(stored(path))
    except Unreadable as error:
        raise Unreadable(f"{path.name}: {error}") from error


def _gif(path: File) -> Clip:
    frames, lasting = [], []
    with reading("no GIF file"), Image.open(opened(path), formats=("GIF",)) as picture:
        # Each frame of a GIF changes a part of the one before; Pillow puts it in.
        for frame in ImageSequence.Iterator(picture):
            frames.append(opaque(np.asarray(frame.convert("RGBA"))))
            lasting.append(frame.info.get("duration", 0) / 1000)
    if not any(lasting):
        return Clip(frames)
    lasting = [each if each >= SHORTEST else 1 / RATE for each in lasting]
    return Clip(frames, np.concatenate([[0.0], np.cumsum(lasting)]))


def _stream(path: File) -> Clip:
    frames, starts, last = [], [], 0
    with _video(path) as (file, stream):
        stream.thread_type = "AUTO"
        average, tick = float(stream.average_rate or 0), float(stream.time_base)
        for frame in file.decode(stream):
            frames.append(_pixels(frame, stream))
            starts.append(np.nan if frame.pts is None else frame.pts * tick)
            last = frame.duration * tick
    return Clip(frames, _times(np.array(starts), last, average, tick))


def _index(path: File) -> Index | None:
    """None where frames have no exact times and places of their own. The first frame is
    decoded, to know that it can be; Unreadable where not, or where the file is cut
    short."""
    with _video(path) as (file, stream):
        if file.format.name.split(",")[0] not in INDEXED:
            return None
        # Packets of no size end a stream; those to discard a file cuts off itself.
        found = [
            (packet.pts, packet.duration or 0, packet.is_keyframe)
            for packet in file.demux(stream)
            if packet.size and not packet.is_discard
        ]
        stamps = {stamp for stamp, _, _ in found}
        keys = [stamp for stamp, _, key in found if key]
        if None in stamps or not keys or len(stamps) < len(found):
            return None
        if len(found) < stream.frames:
            raise Unreadable(f"is cut short: {len(found)} frames of {stream.frames}")
        ticks = np.sort(np.array(list(stamps), np.int64))
        average, tick = float(stream.average_rate or 0), float(stream.time_base)
        last = max(found)[1] * tick
        file.seek(int(min(keys)), stream=stream)
        next(iter(file.decode(stream)))
    times = _times(ticks * tick, last, average, tick)
    return Index(path, ticks, np.sort(np.array(keys, np.int64)), times)


@contextlib.contextmanager
def _video(path: File) -> Iterator[tuple[Any, Any]]:
    """(a container, its first stream of pictures); Unreadable says what is not so."""
    import av  # slow to import, and of use only here

    with reading("not a whole video"), av.open(opened(path)) as file:
        if not file.streams.video:
            raise Unreadable("holds no video")
        yield file, file.streams.video[0]


def _pixels(frame: Any, stream: Any) -> UInt8[np.ndarray, "h w 3"]:
    wide = float(stream.sample_aspect_ratio or 1) or 1.0
    width = max(1, round(frame.width * wide))
    pixels = frame.to_ndarray(format="rgb24", width=width, height=frame.height)
    # A phone held upright stores its pictures lying, and how to turn them.
    return np.rot90(pixels, round(frame.rotation / 90))


def _times(
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
