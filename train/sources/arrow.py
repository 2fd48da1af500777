"""Arrow streams, mapped into memory, whatever wrote them.

Arrow believes what a stream says. Where a byte of it is wrong a text may have less than
no length, and the process ends in the midst of C++; so what is to be read is looked
over first, which takes its offsets and not its contents. Parts may be compressed, too,
and unpack as they are opened to as much as they say, which is asked before.
"""

import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from train.errors import Unreadable
from train.modalities.files.limits import check_decoded
from train.modalities.files.stored import check_regular

END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream


def record_batches(path: Path) -> list[Any]:
    """A stream's pyarrow.RecordBatches; raises anything for what is none."""
    import pyarrow  # slow to import

    check_regular(path)
    with pyarrow.memory_map(str(path)) as file:
        if file.size() < len(END) or file.read_at(8, file.size() - 8) != END:
            raise Unreadable("is cut short")
        unpacked = sum(map(_unpacked, pyarrow.ipc.MessageReader.open_stream(file)))
        check_decoded(unpacked, file.size(), False, "save it uncompressed")
        file.seek(0)
        return list(pyarrow.ipc.open_stream(file))


def check_columns(batch: Any, names: Collection[str]) -> None:
    """Raises where one of the columns is not there, or makes no sense."""
    for name in names:
        if batch.schema.names.count(name) != 1:
            raise Unreadable(f"has no single column {name[:100]!r}")
        batch.column(name).validate(full=True)


def _unpacked(message: Any) -> int:
    """Bytes that the compressed parts of a message say they unpack to.

    https://github.com/apache/arrow/blob/main/format/Message.fbs: of a message's table
    the third field is a record batch, or a dictionary, whose second is one; of a
    record batch the third is where its parts lie, and the fourth how they are packed.
    """
    if message.type not in ("record batch", "dictionary"):
        return 0
    text, body = message.metadata.to_pybytes(), message.body
    batch = _table(text, _field(text, _table(text, 0), 2))
    if message.type == "dictionary":
        batch = _table(text, _field(text, batch, 1))
    parts = _field(text, batch, 2)
    if not _field(text, batch, 3) or not parts:
        return 0
    (vector,) = struct.unpack_from("<I", text, parts)
    return sum(
        max(0, *struct.unpack_from("<q", body, start))
        for start, size in _pairs(text, parts + vector)
        if size
    )


def _pairs(text: bytes, at: int) -> Iterator[tuple[int, int]]:
    """(start, size) of each part of a body."""
    (count,) = struct.unpack_from("<I", text, at)
    return struct.iter_unpack("<qq", text[at + 4 : at + 4 + 16 * count])


def _table(text: bytes, at: int) -> int:
    """Where a table of a flatbuffer lies that is pointed at from here."""
    return at + struct.unpack_from("<I", text, at)[0]


def _field(text: bytes, table: int, which: int) -> int:
    """Where a field of a table lies; 0 where it is left out."""
    fields = table - struct.unpack_from("<i", text, table)[0]
    place = 4 + 2 * which
    if place >= struct.unpack_from("<H", text, fields)[0]:
        return 0
    offset = struct.unpack_from("<H", text, fields + place)[0]
    return offset and table + offset
