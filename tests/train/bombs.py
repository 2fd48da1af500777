"""Small files that would take gigabytes, and a program that reads each of them.

python -m tests.train.bombs FOLDER reads all that `write` has written there, in little
address space, and prints a line of JSON for each: what was said, and how much the
process's memory has grown by then.
"""

import io
import json
import resource
import struct
import sys
import time
import zipfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile
from PIL import Image

from train.errors import BadInput, Unreadable
from train.modalities import Audio, Images, Ranges, Series, Tables, Video, Volumes
from train.sources.rows import Rows

HEAP = 3 * 2**30  # bytes of address space that readers may ask for
BLOCK = 2**20


def zeros(megabytes, head=b""):
    """A raw deflate stream of these bytes and so many megabytes of zeros."""
    packer = zlib.compressobj(9, wbits=-15)
    begin = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    return begin + block * megabytes + b"\3\0"


def gzipped(megabytes, head):
    size = (len(head) + megabytes * BLOCK) % 2**32
    begin = b"\x1f\x8b\x08" + bytes(7)
    return begin + zeros(megabytes, head) + struct.pack("<II", 0, size)


def header(shape):
    file = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)
    return file.getvalue()


def npz(path, name, megabytes):
    """One array, whose sizes in the archive are put in where it says 0."""
    head = header((megabytes // 4, 1024, 1024))
    data = zeros(megabytes, head)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.npy", data)
    size = struct.pack("<I", len(head) + megabytes * BLOCK)
    made, stored = path.read_bytes(), struct.pack("<II", len(data), len(data))
    packed = stored[:4] + size
    assert made.count(stored) == 2
    made = made.replace(stored, packed)
    for mark, at in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        at += made.rindex(mark)
        made = made[:at] + struct.pack("<H", zipfile.ZIP_DEFLATED) + made[at + 2 :]
    path.write_bytes(made)


def nifti(path):
    import nibabel

    about = nibabel.Nifti1Header()
    about.set_data_dtype(np.float32)
    about.set_data_shape((1000, 1000, 1000))
    about["vox_offset"], about["magic"] = 352, b"n+1"
    path.write_bytes(gzipped(3815, about.binaryblock + bytes(4)))


def png(path, width, height):
    def chunk(kind, data):
        total = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + total

    about = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = b"\x78\x9c" + zeros(3 * width * height // BLOCK)
    chunks = chunk(b"IHDR", about) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def gif(path, side, frames):
    shades = [Image.new("P", (side, side), i % 2) for i in range(frames)]
    for i, each in enumerate(shades):
        each.putpalette([0, 0, 0, 255, 255, 255])
        each.putpixel((i, i), 1 - i % 2)
    shades[0].save(path, save_all=True, append_images=shades[1:], duration=100)


def flac(path):
    """Its header claims 2**33 samples."""
    soundfile.write(path, np.zeros(4096, np.int16), 8000)
    data = bytearray(path.read_bytes())
    data[21] = data[21] & 0xF0 | 2  # the highest four bits of 36
    path.write_bytes(data)


def silence(path):
    """Eight channels, for two minutes and a half."""
    soundfile.write(path, np.zeros((3 * 10**7, 8), np.int16), 192_000)


def numbers(path, groups):
    with pyarrow.parquet.ParquetWriter(path, pyarrow.schema({"a": "f4"})) as out:
        table = pyarrow.table({"a": pyarrow.array(np.zeros(4 * 10**6, np.float32))})
        for _ in range(groups):
            out.write_table(table)


def words(path):
    """A megabyte of a word, five thousand times."""
    pick = pyarrow.array(np.zeros(5000, np.int32))
    column = pyarrow.DictionaryArray.from_arrays(pick, ["x" * BLOCK])
    pyarrow.parquet.write_table(pyarrow.table({"a": column, "b": pick}), path)


# Name of a file -> what writes it, and what reads it, one after the other.
IMAGES, SOUND, SERIES = Images("folder"), Audio("folder"), Series("folder", channels=1)
CLIPS, SCANS, ROWS = Video("folder", size=8), Volumes("folder"), partial(Rows, Tables())
BOMBS = {
    "a.npz": (partial(npz, name="volume", megabytes=4000), [SCANS.load]),
    "b.npz": (partial(npz, name="range", megabytes=4000), [Ranges("folder").load]),
    "c.npz": (partial(npz, name="a", megabytes=4000), [SERIES.load, SERIES.read]),
    "a.npy": (lambda path: path.write_bytes(header((4000, 4000, 4000))), [SCANS.load]),
    "a.nii.gz": (nifti, [SCANS.load]),
    "a.png": (partial(png, width=40_000, height=20_000), [IMAGES.load]),
    "b.png": (partial(png, width=13_000, height=13_000), [IMAGES.load]),
    "a.gif": (partial(gif, side=12_000, frames=1), [IMAGES.load, CLIPS.load]),
    "b.gif": (partial(gif, side=3000, frames=30), [CLIPS.read]),
    "a.flac": (flac, [SOUND.load]),
    "b.flac": (silence, [SOUND.load]),
    "a.parquet": (partial(numbers, groups=40), [SERIES.load, SERIES.read]),
    "b.parquet": (words, [SERIES.load, ROWS]),
    "c.parquet": (partial(numbers, groups=5), [ROWS]),
    "b.csv": (lambda path: path.write_text("," * 200_000 + "\n"), [SERIES.load]),
}


def write(folder):
    for name, (make, _) in BOMBS.items():
        make(folder / name)


def read(folder):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + HEAP, used + HEAP))
    memory = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    before = memory()
    for name, load in ((name, each) for name, (_, of) in BOMBS.items() for each in of):
        start = time.perf_counter()
        try:
            load(folder / name)
            said = "read"
        except (BadInput, Unreadable) as error:
            said = str(error)
        took = time.perf_counter() - start
        print(json.dumps([name, said, took, memory() - before]), flush=True)


if __name__ == "__main__":
    read(Path(sys.argv[1]))
