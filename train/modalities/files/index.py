"""Frames of clips where an example needs them, by an index or by going there."""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from train.errors import BadInput, Unreadable, briefly
from train.modalities.files.clips import (
    even_times,
    frames_of,
    is_gif,
    open_video,
    times_of,
    upright,
    warn_once,
)
from train.modalities.files.stored import File, for_libraries
from vqdit.shapes import Float, Int, UInt8

# FFmpeg's containers in which a frame is found by its time: MP4, MOV, Matroska, WebM,
# and by its place, AVI.
INDEXED = ("mov", "matroska", "avi")
KEPT = 2**26  # bytes of a file's frames that stay in memory where it has no index

DecodedFrame = UInt8[np.ndarray, "h w c"]


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
    kept: None = None

    def __len__(self) -> int:
        return len(self.stamps)

    def pick(self, rows: Sequence[int]) -> list[UInt8[np.ndarray, "h w c"]]:
        """These frames, of ascending rows: what is on the screen at their times.

        Decoded from the nearest frame before that needs no others. Raises BadInput.
        """
        try:
            return self._picked(self.stamps[np.asarray(rows, int)].tolist())
        except Exception as error:  # FFmpeg may raise anything on a broken file
            raise BadInput(
                f"{self.path}: cannot be decoded ({briefly(error)}); remove it"
            ) from error

    def _picked(self, wanted: list[int]) -> list[np.ndarray]:
        import av

        found: list[np.ndarray] = []
        origin = wanted[0]
        with av.open(for_libraries(self.path), "r") as file:
            stream = file.streams.video[0]
            while len(found) < len(wanted):
                key = self._key(origin)
                file.seek(key, stream=stream)
                before, begun = None, len(found)
                try:
                    for frame in file.decode(stream):
                        before = before or frame
                        stamp = frame.pts
                        if stamp is None:  # `_index` found that all have one
                            raise Unreadable("a frame has lost its time")
                        while stamp >= wanted[len(found)]:
                            exact = stamp == wanted[len(found)]
                            found.append(upright(frame if exact else before, stream))
                            if len(found) == len(wanted):
                                return found
                        before = frame
                        # Nothing on the way to what comes next is of use.
                        moved = len(found) > begun
                        if moved and self._key(wanted[len(found)]) > stamp:
                            break
                    else:  # the file ends before
                        found.append(upright(before, stream))
                except av.error.FFmpegError as error:
                    # As players do, what is on the screen stays there.
                    warn_once(f"{self.path} is broken ({briefly(error)})")
                    if before is None and key == self.keys[0]:
                        raise
                    if before is None:
                        origin = key - 1
                        continue
                    found.append(upright(before, stream))
                origin = wanted[min(len(found), len(wanted) - 1)]
        return found

    def _key(self, stamp: int) -> int:
        at = int(np.searchsorted(self.keys, stamp, side="right")) - 1
        return int(self.keys[max(at, 0)])


@dataclasses.dataclass(frozen=True, eq=False)
class Reel:
    """A clip without an index: a folder of pictures, a GIF, an MPEG stream.

    kept: its frames, where they are few; None: one goes there from the start each time,
        or reads the pictures that are wanted. times: of Clip.
    """

    path: File
    count: int
    times: Float[np.ndarray, "n1"] | None
    kept: list[DecodedFrame] | None

    def __len__(self) -> int:
        return self.count

    def pick(self, rows: Sequence[int]) -> list[DecodedFrame]:
        """These frames, of ascending rows. Raises BadInput."""
        if self.kept is not None:
            return [self.kept[row] for row in rows]
        try:
            if self.path.is_dir():
                pictures = list(frames_of(self.path))
                return [pictures[row][0]() for row in rows]
            return self._passed(set(rows))
        except Unreadable as error:
            raise BadInput(f"{self.path}: {error}; remove it") from error

    def _passed(self, wanted: set[int]) -> list[DecodedFrame]:
        found = []
        with closing(frames_of(self.path)) as frames:
            for row, (pixels, *_) in enumerate(frames):
                if row in wanted:
                    found.append(pixels())
                if len(found) == len(wanted):
                    return found
        raise Unreadable(f"it ends before frame {max(wanted)}")


def open_clip(
    path: File, fit: Callable[[DecodedFrame], DecodedFrame] = lambda x: x
) -> Index | Reel:
    """A clip to cut examples from: the index of a video file that has one; of all else
    the frames, each as `fit` makes it, while these are few.

    Whatever a file holds, no more than KEPT bytes of it are in memory at once. Raises
    Unreadable, after all frames were decoded where there is no index.
    """
    still = path.is_dir() or is_gif(path)
    if not still and (index := _index(path)):
        return index
    starts, lasting, size = [], [], 0
    kept: list[DecodedFrame] | None = []
    for pixels, start, length in frames_of(path):
        starts.append(start)
        lasting.append(length)
        if kept is None and not path.is_dir():
            continue
        frame = fit(pixels())
        size += frame.nbytes
        if kept is not None:
            kept.append(frame)
        if size > KEPT:
            kept = None
    if not starts:
        raise Unreadable("it holds no frame")
    if kept is None and not path.is_dir():
        warn_once(
            f"{path} has no index, so that every example is decoded from its start; "
            "an MP4 or Matroska file of it would have one"
        )
    return Reel(path, len(starts), times_of(path, starts, lasting), kept)


def _index(path: File) -> Index | None:
    """None where frames have no exact times and places of their own. The first frame is
    decoded, to know that it can be; Unreadable where not, or where the file is cut
    short."""
    with open_video(path) as (file, stream):
        kind = file.format.name.split(",")[0]
        avi = kind == "avi"
        # It says in which order frames are stored, and not when they are shown.
        if kind not in INDEXED or avi and stream.codec_context.has_b_frames:
            return None
        # Packets of no size end a stream. Those to discard a file cuts off itself: only
        # what is shown is counted, though it may need a key frame that is not.
        found = [
            (packet.pts, packet.duration or 0, packet.is_keyframe, packet.is_discard)
            for packet in file.demux(stream)
            if packet.size
        ]
        shown = [(stamp, lasts) for stamp, lasts, _, cut in found if not cut]
        stamps = {stamp for stamp, _ in shown}
        keys = [stamp for stamp, _, key, _ in found if key]
        timed = None not in stamps and None not in keys
        if not timed or not keys or not shown or len(stamps) < len(shown):
            return None
        end, last = max(shown)
        # A file that cuts off its end itself may leave out what comes after; an AVI
        # counts those that were dropped, too.
        lasting = end + last - (stream.start_time or 0)
        fills = stream.duration is not None and lasting >= stream.duration
        if not avi and len(found) < stream.frames and not fills:
            raise Unreadable(f"is cut short: {len(found)} frames of {stream.frames}")
        ticks = np.sort(np.array(list(stamps), np.int64))
        average, tick = float(stream.average_rate or 0), float(stream.time_base)
        last *= tick
        file.seek(int(min(keys)), stream=stream)
        next(iter(file.decode(stream)))
    times = even_times(ticks * tick, last, average, tick)
    return Index(path, ticks, np.sort(np.array(keys, np.int64)), times)
