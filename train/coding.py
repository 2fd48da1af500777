"""The codec's bundle, and the files that go in and come out."""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from train import opening
from train import prior as priors
from train.errors import BadInput
from train.layout import BATCH, Opened
from train.media import Clips, Kind, Pictures, Sound
from train.prior import MOST_CODES
from train.tables import Arrays, Table
from vqdit.codec import Codec

KINDS: dict[str, Kind] = {
    "image": Pictures(),
    "audio": Sound(),
    "video": Clips(),
    "series": Table(),
    "volume": Arrays(3),
    "range": Arrays(2),
}


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


def watch(items: Sequence, doing: str) -> tqdm:
    """The items with a progress bar, on a terminal. Used in a `with`, so that the bar
    is gone before an error is printed."""
    return tqdm(items, doing, leave=False, disable=None)
