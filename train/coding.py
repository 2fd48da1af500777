"""A tokenizer's bundle as the codec uses it, and the files that go in and come out."""

import dataclasses
import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from train import opening
from train import prior as priors
from train.container import Header
from train.errors import BadInput
from train.media import PIXELS, Clips, Kind, Pictures, Sound
from train.prior import MOST_CODES, Prior
from train.tables import Arrays, Table
from train.tiles import Tiling
from vqdit.codec import Codec
from vqdit.tokenizer import to_uint8

KINDS: dict[str, Kind] = {
    "image": Pictures(),
    "audio": Sound(),
    "video": Clips(),
    "series": Table(),
    "volume": Arrays(3),
    "range": Arrays(2),
}
BATCH = 32  # tiles that run through the tokenizer at once


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """A tokenizer's bundle as the codec uses it; `batch` tiles are coded at once."""

    codec: Codec
    prior: Prior | None
    kind: Kind
    batch: int = BATCH

    @property
    def contract(self):
        """The tokenizer's."""
        return self.codec.contract

    def tiling(self, shape: Sequence[int], overlap: int) -> Tiling:
        """Of a signal (*axes, c) in tiles of the contract's shape."""
        if len(shape) != len(self.contract.shape):
            raise ValueError(f"a signal of {tuple(shape)} is not the bundle's kind")
        return Tiling(shape[:-1], self.contract.shape[:-1], overlap)

    def codes(self, planes: np.ndarray, tiling: Tiling) -> np.ndarray:
        """Planes (p, *axes, c) -> codes (p * tiles, places, m)."""
        found = []
        for plane in planes:
            for start in range(0, len(tiling), self.batch):
                tiles = tiling.cut(plane, start, start + self.batch)
                x = self.codec.from_raw(filled(tiles, self.batch))
                codes = np.asarray(self.codec.encode(x).codes)[: len(tiles)]
                found.append(codes.reshape(len(tiles), -1, codes.shape[-1]))
        return np.concatenate(found)

    def planes(self, codes: np.ndarray, tiling: Tiling) -> np.ndarray:
        """The inverse, up to what the tokenizer loses: raw values, pixels uint8."""
        codes = codes.reshape(-1, *self.contract.code_grid, codes.shape[-1])

        def tiles(of_plane):
            for start in range(0, len(of_plane), self.batch):
                part = of_plane[start : start + self.batch]
                x = self.codec.decode(filled(part, self.batch))
                yield from np.asarray(self.codec.to_raw(x))[: len(part)]

        count, channels = len(tiling), self.contract.shape[-1]
        joined = [
            tiling.join(tiles(codes[low : low + count]), channels)
            for low in range(0, len(codes), count)
        ]
        if self.contract.kind in PIXELS:
            joined = [np.asarray(to_uint8(plane)) for plane in joined]
        return np.stack(joined)

    def rebuild(self, header: Header, codes: np.ndarray) -> np.ndarray:
        """The values that a file's codes stand for, at its own size and rate."""
        tiling = self.tiling(header.coded_shape, header.overlap)
        planes = self.planes(codes, tiling)
        values = self.kind.merge(planes, header.shape[-1])
        if header.length:
            values = self.kind.resample(values, self.contract.rate, header.rate)
            places = np.minimum(np.arange(header.shape[0]), len(values) - 1)
            values = values[places]
        return values


def open_bundle(path: str | Path | None, batch: int = BATCH) -> Opened:
    """A tokenizer with codes, and the prior beside it; BadInput for all else."""
    codec = open_tokenizer(path)
    prior = priors.load(bundle_folder(path), codec.contract)
    return Opened(codec, prior, KINDS[codec.contract.kind], batch)


def open_tokenizer(path: str | Path | None) -> Codec:
    """A tokenizer whose codes can be stored and whose signals have files."""
    codec = opening.open_bundle(path, Codec, "--bundle")
    contract = codec.contract
    if not contract.codes:
        raise BadInput(
            f"--bundle: {path} is a continuous tokenizer, which has no codes to store; "
            f"write one with a quantizer"
        )
    if max(contract.codes) > MOST_CODES:
        raise BadInput(
            f"--bundle: {path} has books of {max(contract.codes)} codes; the codec "
            f"takes up to {MOST_CODES}"
        )
    if contract.kind not in KINDS:
        raise BadInput(
            f"--bundle: {path} is of {contract.kind}; files are {', '.join(KINDS)}"
        )
    return codec


def bundle_folder(path: str | Path) -> Path:
    """The folder that `vqdit.load` reads: of a workdir, its bundle."""
    path = Path(path)
    return path / "bundle" if (path / "bundle").is_dir() else path


def listed(words: Sequence[str], suffixes: Sequence[str]) -> list[Path]:
    """The files that are named, those of a folder that have one of the suffixes, and
    those that a pattern matches. Raises BadInput where there is none."""
    if not words:
        raise BadInput("write the files to read, or a folder of them")
    found: list[Path] = []
    ends = " ".join(suffixes)
    for word in words:
        path = Path(word)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes)
            if not inside:
                raise BadInput(f"{word} holds no {ends} file")
            found += inside
        elif path.exists():
            found.append(path)
        elif matches := sorted(glob.glob(word)):
            found += map(Path, matches)
        else:
            raise BadInput(f"there is no {word}; write a file, or a folder of them")
    for path in found:
        if path.suffix.lower() not in suffixes:
            raise BadInput(f"{path}: the bundle's kind is read from {ends}")
    return list(dict.fromkeys(found))


def targets(
    out: str | None, names: Iterable[tuple[Path, str]], force: bool
) -> list[Path]:
    """out/STEM.SUFFIX of each (input, suffix); none there, no two the same."""
    if not out:
        raise BadInput("write --out=DIR, the folder to write to")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out={out} is a file; write a folder")
    owners: dict[Path, Path] = {}
    for source, suffix in names:
        target = folder / (source.stem + suffix)
        if target in owners:
            raise BadInput(
                f"{owners[target]} and {source} would both become {target}; "
                f"rename one, or write them to two folders"
            )
        if target.exists() and not force:
            raise BadInput(f"{target} is there; write --force to replace it")
        owners[target] = source
    return list(owners)


def filled(rows: np.ndarray, batch: int) -> np.ndarray:
    """`batch` rows: the last repeated where there are fewer."""
    short = batch - len(rows)
    return (
        np.concatenate([rows, np.repeat(rows[-1:], short, axis=0)]) if short else rows
    )


def watch(items: Sequence, doing: str) -> tqdm:
    """The items with a progress bar, on a terminal. Used in a `with`, so that the bar
    is gone before an error is printed."""
    return tqdm(items, doing, leave=False, disable=None)
