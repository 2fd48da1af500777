"""TensorBoard's event files, written while the run waits.

tensorboardX's SummaryWriter writes in a thread, which an error of the disk ends: after
ten more events the run would wait for that thread for ever.
"""

import io
import os
import socket
import struct
import time
from pathlib import Path

from train.modalities.files.writing import append
from train.modalities.shown import picture_sides


class Board:
    """An event file in the folder. An event that the disk does not take is left out,
    and its method raises OSError.

    purge_step: events from this step on, of files before, are no longer shown.
    """

    def __init__(self, folder: Path, purge_step: int | None = None):
        # Slow imports, of use only here.
        from tensorboardX import record_writer, summary
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        folder.mkdir(parents=True, exist_ok=True)
        self._summary, self._event, self._kinds = summary, Event, Summary
        self._checksum = record_writer.masked_crc32c
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        self._file = os.open(folder / name, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
        self._add(file_version="brain.Event:2")
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._add(step=purge_step, session_log=start)

    def scalar(self, name: str, value: float, step: int) -> None:
        self._add(step=step, summary=self._summary.scalar(name, value))

    def sound(self, name: str, content: bytes, step: int) -> None:
        """A WAV, heard in the browser."""
        import soundfile  # slow to import

        info = soundfile.info(io.BytesIO(content))
        sound = self._kinds.Audio(
            sample_rate=info.samplerate,
            num_channels=info.channels,
            length_frames=info.frames,
            encoded_audio_string=content,
            content_type="audio/wav",
        )
        self._add(step=step, summary=self._one(name, audio=sound))

    def picture(self, name: str, content: bytes, step: int) -> None:
        """A PNG, or a GIF, which moves in the browser."""
        width, height = picture_sides(content)
        size = {"height": height, "width": width, "colorspace": 3}
        shown = self._kinds.Image(**size, encoded_image_string=content)
        self._add(step=step, summary=self._one(name, image=shown))

    def _one(self, name, **value):
        return self._kinds(value=[self._kinds.Value(tag=name, **value)])

    def text(self, name: str, text: str, step: int) -> None:
        """text: Markdown."""
        self._add(step=step, summary=self._summary.text(name, text))

    def _add(self, **event) -> None:
        """A TFRecord: length, its checksum, data, their checksum."""
        data = self._event(wall_time=time.time(), **event).SerializeToString()
        length = struct.pack("<Q", len(data))
        marks = (struct.pack("<I", self._checksum(part)) for part in (length, data))
        append(self._file, length + next(marks) + data + next(marks))

    def close(self) -> None:
        os.close(self._file)
