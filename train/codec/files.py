"""The codec's bundle, and the files that go in and come out."""

import glob
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from train.codec import prior as priors
from train.codec.layout import BATCH, Opened
from train.codec.prior import MOST_CODES
from train.config.outputs import out_folder
from train.errors import BadInput
from train.modalities.files.clips import stills
from train.modalities.files.stored import counted, kind_of, natural
from train.modalities.files.writing import write_bytes, write_folder
from train.modalities.kinds import modality_of, of_contract
from train.modalities.modality import Modality
from train.modalities.record import Record
from train.objectives import bundles as opening
from train.progress import say
from vqdit.trained.codec import Codec


def open_codec(path: str | Path, batch: int = BATCH) -> Opened:
    """A tokenizer with codes, and the prior beside it; BadInput for all else."""
    codec = open_tokenizer(path)
    prior = priors.read_prior(opening.bundle_folder(path), codec.contract)
    return Opened(codec, prior, of_contract(codec.contract), batch)


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
    try:
        takes = modality_of(contract.kind).takes
    except BadInput as error:
        raise BadInput(f"--bundle: {path}: {error}") from error
    for name, _ in contract.preparation:
        if name not in takes:
            raise BadInput(
                f"--bundle: {path} was trained on files prepared by {name!r}, which "
                f"this program does not know; take the one that trained it"
            )
    return codec


def check_named(words: Sequence[str]) -> None:
    """Raises BadInput for files that are not there."""
    if not words:
        raise BadInput("write the files to read, or a folder of them")
    for word in words:
        if not Path(word).exists() and not glob.glob(word):
            raise BadInput(f"there is no {word}; write a file, or a folder of them")


def named_files(
    words: Sequence[str], suffixes: tuple[str, ...], folders: bool = False
) -> list[Path]:
    """The files that are named, those of a folder, and those that a pattern matches,
    in the order of their names and of numbers in them.

    folders: a folder that holds pictures is a signal itself; of one that holds none,
    those folders in it that do are taken along with its files.
    Raises BadInput where there is nothing.
    """
    check_named(words)
    found: list[Path] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            found += _inside(path, suffixes, folders)
        elif path.exists():
            found.append(path)
        else:
            for match in map(Path, sorted(glob.glob(word), key=natural)):
                whole = match.is_dir() and folders
                found += _inside(match, suffixes, folders) if whole else [match]
    for path in found:
        if not (path.is_dir() and folders or _ends(path, suffixes)):
            ends = " ".join(suffixes)
            raise BadInput(f"{path}: the bundle's kind is read from {ends}")
    return list(dict.fromkeys(found))


def write_content(path: Path, content: bytes | dict[str, bytes]) -> None:
    """A file, or a folder's files, whole or not at all."""
    if isinstance(content, dict):
        write_folder(path, content)
    else:
        write_bytes(path, content)


def as_written(data: Modality, record: Record) -> np.ndarray:
    """What is read of the file that a record becomes, as many values as it has."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"signal{record.suffix}"
        write_content(path, data.write(record))
        return data.reread(path, record)


def _inside(folder: Path, suffixes: tuple[str, ...], folders: bool) -> list[Path]:
    # Beside a file whose name begins with a dot lies the one that is meant.
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    files = [path for path in inside if _ends(path, suffixes)]
    if folders:
        if stills(folder):
            if files:
                raise BadInput(
                    f"{folder} holds frames, which make it one clip, and "
                    f"{min(files).name}; write folders of either"
                )
            return [folder]
        files += [path for path in inside if path.is_dir() and stills(path)]
    others = [path for path in inside if path not in files]
    left_out = Counter("folders" if p.is_dir() else kind_of(p.name) for p in others)
    if not files:
        or_frames = ", and no frames" if folders else ""
        raise BadInput(f"{folder} holds no {' '.join(suffixes)} file{or_frames}")
    if left_out:
        say(f"{folder}: left out {counted(left_out)}")
    return sorted(files, key=lambda path: natural(path.name))


def _ends(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes)


def targets(
    out: str, names: Iterable[tuple[Path, str]], force: bool, missing: bool = False
) -> list[Path]:
    """out/STEM.SUFFIX of each (input, suffix), a folder where there is no suffix; no
    two the same: of a.jpg and a.png the whole names are kept.

    None may be there but what `force` replaces, or is left where those are wanted that
    are `missing`.
    """
    if force and missing:
        raise BadInput("--force replaces what --missing leaves; write either")
    folder = out_folder(out, there=True)
    owners: dict[Path, Path] = {}
    names = list(names)
    taken = Counter(_stem(source) + suffix for source, suffix in names)
    for source, suffix in names:
        target = folder / (_stem(source) + suffix)
        if taken[target.name] > 1 and not source.is_dir():
            target = folder / (source.name + suffix)
        if target in owners:
            raise BadInput(
                f"{owners[target]} and {source} would both become {target}; "
                f"rename one, or write them to two folders"
            )
        if target.exists() and not missing:
            if not force:
                raise BadInput(
                    f"{target} is there; write --force to replace it, or --missing for "
                    "the files that are not there yet"
                )
            _check_replaceable(target, suffix)
        owners[target] = source
    return list(owners)


def unwritten(
    paths: Sequence[Path], outs: Sequence[Path], missing: bool
) -> list[tuple[Path, Path]]:
    """(input, output) of those that are to be written: of all, or of the `missing`, and
    it says of how many that are there. Files are there whole, or not at all."""
    pairs = list(zip(paths, outs, strict=True))
    left = [pair for pair in pairs if not (missing and pair[1].exists())]
    if there := len(pairs) - len(left):
        say(f"{there} of {len(pairs)} files are there, and stay as they are")
    return left


def _stem(path: Path) -> str:
    if path.is_dir():
        return Path(os.path.abspath(path)).name  # of "." too
    twice = path.name.lower().endswith(".nii.gz")
    return path.with_suffix("").stem if twice else path.stem


def _check_replaceable(target: Path, suffix: str) -> None:
    """Raises BadInput where --force would take away more than it was meant for."""
    if target.is_dir() != (not suffix):
        what = "a folder" if target.is_dir() else "a file"
        raise BadInput(f"{target} is {what}; remove it, or write to another --out")
    if not suffix and any(p.suffix != ".png" for p in target.iterdir()):
        raise BadInput(
            f"{target} holds more than frames; remove it, or write to another --out"
        )
