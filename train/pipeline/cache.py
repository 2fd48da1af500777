"""Latents and codes of a whole data set on disk, so stage two needs no encoder.

A cache is a folder of ArrayRecord shards and cache.json, which states the latent
contract, the layout of a record, and a checksum per shard. A record is the bytes of its
fields one after the other, little-endian: nothing in it can be executed. Of an example
that training mirrors, all versions lie one after the other.
"""

import contextlib
import functools
import hashlib
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from train.errors import BadInput, refused
from train.modalities.draws import Draws, Word
from train.modalities.files import writing
from train.modalities.files.limits import MOST_CLASSES
from train.modalities.files.stored import from_home
from train.modalities.modality import Modality
from train.modalities.record import Batch
from train.progress import progress
from vqdit import sealed
from vqdit.shapes import Int
from vqdit.trained.bundle import read_json

DESCRIPTION = "cache.json"
FORMAT = 1
SHARD_BYTES = 2**28
CHUNK_BYTES = 2**24  # of records read at once for their labels
MOST_SHARDS = 10**6  # of a part
SHARD = re.compile(r"records-\d{5,}\.array_record")
# What a record may hold, and how each is stored.
DTYPES = {"latents": "<f4", "codes": "<i4", "known": "|u1", "label": "<i4"}

CacheRow = Mapping[str, Any]


@contextlib.contextmanager
def new_cache(folder: str | Path) -> Iterator[Path]:
    """Where the parts of a cache are written and sealed, which becomes `folder` in the
    end, or nothing at all. Raises BadInput where that exists."""
    folder = from_home(folder)
    if folder.exists():
        raise BadInput(f"{folder} exists; remove it, or write the cache elsewhere")
    with writing.new_folder(folder) as unfinished:
        yield unfinished


def seal_cache(
    folder: Path,
    parts: Sequence[dict[str, Any]],
    contract: dict[str, Any],
    count: int,
    versions: int = 1,
) -> None:
    """Writes what the parts, one after the other, are a cache of.

    Of each of `count` examples there are so many versions, one a record after the
    other. Raises BadInput where there are more or fewer, or a part is unlike others.
    """
    written = sum(part["count"] for part in parts)
    if written != count * versions or not count:
        raise BadInput(f"{written} records to cache where {count * versions} are due")
    fields = [part["fields"] for part in parts if part["count"]]
    for each in fields:
        if each != fields[0]:
            raise BadInput(f"records are {each} and {fields[0]}; encode again")
    description = {"format": FORMAT, "contract": contract, "versions": versions}
    description |= {"count": written, "fields": fields[0]}
    description["shards"] = [shard for part in parts for shard in part["shards"]]
    text = json.dumps(sealed.sealed(description), indent=2)
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def write_part(
    folder: Path, records: Iterable[CacheRow], part: int = 0
) -> dict[str, Any]:
    """Writes shards of these records, and returns what `seal_cache` needs: a program of
    several processes has one a process, in the order of their examples.

    A record holds "latents" (*grid, c), "codes" (*grid, m), or both. It may say in
    "known" (*grid) where something was observed, 1, and may have a "label"; where it
    has none -1 is stored. Raises BadInput where a record does not look like the first,
    a latent is not finite, or the disk is full.
    """
    # Only where data is.
    from array_record.python.array_record_module import ArrayRecordWriter

    # Of a full disk it raises a RuntimeError, sooner or later.
    full = lambda: refused("cannot be written", lambda error: f"{folder}: {error}")
    fields: dict[str, dict[str, Any]] = {}
    shards: list[dict[str, str]] = []
    writer: Any = None
    written = 0
    for i, record in enumerate(records):
        arrays = _arrays(i, record)
        shapes = {name: list(array.shape) for name, array in arrays.items()}
        if not fields:
            fields = {n: {"dtype": DTYPES[n], "shape": s} for n, s in shapes.items()}
            per_shard = max(1, SHARD_BYTES // sum(a.nbytes for a in arrays.values()))
        if shapes != {name: field["shape"] for name, field in fields.items()}:
            raise BadInput(f"record {i} is {shapes}, unlike the first; encode again")
        with full():
            if i % per_shard == 0:
                if writer is not None:
                    writer.close()
                number = part * MOST_SHARDS + len(shards)
                path = folder / f"records-{number:05d}.array_record"
                # One record a group: reading one must not decompress its neighbours.
                writer = ArrayRecordWriter(str(path), "group_size:1")
                shards.append({"file": path.name})
            writer.write(b"".join(array.tobytes() for array in arrays.values()))
        written = i + 1
    if writer is not None:
        with full():
            writer.close()
    for shard in shards:
        shard["sha256"] = _checksum(folder / shard["file"])
    return {"count": written, "fields": fields, "shards": shards}


def _arrays(i: int, record: CacheRow) -> dict[str, np.ndarray]:
    arrays = {}
    for name, dtype in DTYPES.items():
        if name not in record and name != "label":
            continue
        value = np.asarray(record.get(name, -1))
        if not np.isfinite(value).all():
            raise BadInput(f"record {i}: {name} are not finite; look at the tokenizer")
        arrays[name] = value.astype(dtype)
    return arrays


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class LatentCache:
    """A Source over a folder that `seal_cache` wrote, verified when it is opened.

    mirrors: words of the draws that say which version of an example is trained on, as
        `Draws.version` does; () for the first, as it was stored.
    contract: what was given to `seal_cache`, for the caller to compare.
    classes, class_names, absent: as the contract states them under these names, else 0
        and ().
    """

    def __init__(self, folder: str | Path, mirrors: Sequence[int] = ()):
        self.mirrors = mirrors
        folder = from_home(folder)
        try:
            stored = read_json(folder / DESCRIPTION)
        except (FileNotFoundError, NotADirectoryError):
            raise BadInput(
                f"{folder}: no latent cache ({DESCRIPTION} is missing); "
                "write one with python -m train.encode"
            ) from None
        except ValueError as error:
            raise BadInput(f"{folder / DESCRIPTION}: {error}; encode again") from error
        again = lambda error: f"{folder / DESCRIPTION}: {error}; encode again"
        with refused("damaged", again):
            paths, digests = self._described(sealed.opened(stored), folder)
        self.mark = str(stored.get(sealed.SEAL, ""))  # of the hashes of all records
        with ThreadPoolExecutor(4) as pool:  # hashing releases the interpreter lock
            checked = pool.map(_verify, paths, digests)
            deque(progress(checked, "checking the cache", len(paths), "shard"), 0)
        from array_record.python import array_record_data_source  # only where data is

        again = lambda error: f"{folder}: {error}; encode again"
        with refused("it cannot be read", again):
            self._records = array_record_data_source.ArrayRecordDataSource(
                [str(path) for path in paths]
            )
            ends = self._records.__getitems__([0, len(self._records) - 1])
        if len(self._records) != self.count:
            raise BadInput(
                f"{folder}: {len(self._records)} records where {self.count} belong; "
                "encode again"
            )
        if any(len(end) != self._record.itemsize for end in ends):
            raise BadInput(f"{folder}: its records are not of its fields; encode again")

    def _described(self, stored: dict, folder: Path) -> tuple[list[Path], list[str]]:
        """Takes over what cache.json says; returns the shards and their checksums."""
        if stored["format"] != FORMAT:
            raise BadInput(f"{folder}: format {stored['format']}; encode again")
        self.contract: dict[str, Any] = stored["contract"]
        self.classes = int(self.contract.get("classes", 0))
        if not 0 <= self.classes <= MOST_CLASSES:
            raise ValueError(f"it has {self.classes} classes")
        self.class_names = tuple(self.contract.get("class_names", ()))
        self.absent = tuple(self.contract.get("absent", ()))
        self._record = np.dtype(
            [
                (name, DTYPES[name], tuple(field["shape"]))
                for name, field in stored["fields"].items()
            ]
        )
        self.count = stored["count"]
        self.versions = stored.get("versions", 1)
        for number in (self.count, self.versions):
            if type(number) is not int or number < 1:
                raise ValueError(f"a count is {number}")
        if self.count % self.versions:
            raise ValueError(f"{self.count} records of {self.versions} versions")
        names = [shard["file"] for shard in stored["shards"]]
        for name in names:
            if not SHARD.fullmatch(name):
                raise ValueError(f"{name!r} is no shard of a cache")
        digests = [shard["sha256"] for shard in stored["shards"]]
        return [folder / name for name in names], digests

    def __len__(self) -> int:
        return self.count // self.versions

    @property
    def fields(self) -> tuple[str, ...]:
        """What a record holds, by name."""
        return self._record.names or ()

    @property
    def record_bytes(self) -> int:
        return self._record.itemsize

    def take(
        self, indices: Int[np.ndarray, "b"], version: Int[np.ndarray, "b"] | int = 0
    ) -> Batch:
        """{"latents" and/or "codes", "known", "label"}, (b, ...), as asked for."""
        rows = indices * self.versions + version
        records = self._records.__getitems__(rows.tolist())
        found = np.frombuffer(b"".join(records), self._record)
        return {name: found[name].copy() for name in self.fields}


class CachedExamples:
    """A cache in the place of `Examples`, to be joined with others.

    data: what it was made of. field: of a record, the one that the stream is of.
    """

    order = ""  # labels and names of a cache go together

    def __init__(self, cache: LatentCache, data: Modality, field: str):
        self.cache, self.data, self.field = cache, data, field
        self.classes, self.class_names = cache.classes, cache.class_names
        self.absent, self.keys = cache.absent, cache.contract.get("keys")

    def __len__(self) -> int:
        return len(self.cache)

    @functools.cached_property
    def labels(self) -> Int[np.ndarray, "n"]:
        parts = 1 + len(self) * self.cache.record_bytes // CHUNK_BYTES
        rows = np.array_split(np.arange(len(self)), min(parts, len(self)))
        return np.concatenate([self.cache.take(each)["label"] for each in rows])

    def take(
        self, indices: Int[np.ndarray, "b"], version: Int[np.ndarray, "b"] | int = 0
    ) -> Batch:
        """{"x", "label"} and, where there is, "known"."""
        found = self.cache.take(indices, version)
        names = {self.field: "x", "known": "known", "label": "label"}
        return {new: found[old] for old, new in names.items() if old in found}

    def augmented(
        self, indices: Int[np.ndarray, "b"], epochs: Int[np.ndarray, "b"], seed: int
    ) -> Batch:
        """Mirrored where the examples that they are of would be; of a cache that holds
        several epochs, as one of these has them."""
        draws = Draws(seed, epochs, indices)
        if "epochs" in self.cache.contract:
            version = (draws(Word.EPOCH) * self.cache.versions).astype(int)
        else:
            version = draws.version(self.cache.mirrors)
        return self.take(indices, version)


def _verify(path: Path, digest: str) -> None:
    if not path.is_file():
        raise BadInput(f"{path}: no such file; the cache is incomplete, encode again")
    if _checksum(path) != digest:
        raise BadInput(f"{path}: truncated or altered (sha256 differs); encode again")
