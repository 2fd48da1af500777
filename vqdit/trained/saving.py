"""Bundles are written whole or not at all, hashed, and of finite weights."""

import dataclasses
import glob
import hashlib
import json
import os
import pathlib
import shutil
import time
import uuid

import jax.numpy as jnp
import numpy as np

from vqdit import sealed
from vqdit.trained.codec import Codec
from vqdit.trained.contract import fingerprint, flatten
from vqdit.trained.generator import Generator
from vqdit.trained.judge import Judge
from vqdit.values import describe

FORMAT = 2
FILES = ("config.json", "model.safetensors")
PARTS = (*FILES, "prior.npz")  # which `train.compress --fit` lays beside them


def save(path: str | os.PathLike, thing: Codec | Generator | Judge) -> None:
    """Writes a bundle folder; one that is there goes once the new is whole.

    One of the very same files stays, and with it what others have laid beside them.
    A workdir means its bundle, as in `load`. Raises ValueError where there is something
    else, which is left as it is, and where a weight is not finite.
    """
    folder = place(path)
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        save_by(fresh, folder, thing)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def save_by(
    fresh: pathlib.Path, folder: pathlib.Path, thing: Codec | Generator | Judge
) -> None:
    """The same of a `place`, by a folder beside it that stays where it is not used."""
    _write(fresh, thing)
    if _holds(folder, fresh):
        return
    if folder.exists():
        aside = folder.with_name(f".{folder.name}.old.{uuid.uuid4().hex}")
        folder.rename(aside)
        try:
            fresh.rename(folder)
        except BaseException:
            aside.rename(folder)
            raise
        shutil.rmtree(aside)
    else:
        fresh.rename(folder)


def stamp(folder: pathlib.Path) -> tuple[bytes, ...] | None:
    """What tells a bundle from the next one in its place; None where there is none.

    It is what its config.json, and those of its tokenizers, say: of their weights the
    hash. Numbers and times of files are no part of it, which some mounts make up anew.
    No two folders change places at once everywhere: between one's going and the
    other's coming this waits, a second at most, for `save` to be done.
    """
    for looked in range(20):
        try:
            parts = sorted(folder.glob(f"tokenizers/*/{FILES[0]}"))
            return tuple(map(_said, [folder / FILES[0], *parts]))
        except OSError:
            if looked and not is_going(folder):  # twice: it may just have come
                break
            time.sleep(0.05)
    return None


def _said(path: pathlib.Path) -> bytes:
    """What a file says, as far as it may; nothing of a pipe, which has no end."""
    path.stat()
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(sealed.LARGEST)
    except OSError:  # who reads it next says why
        pass
    return b""


def is_going(folder: pathlib.Path) -> bool:
    """Whether `save` has taken a bundle away to put another in its place."""
    return any(folder.parent.glob(f".{glob.escape(folder.name)}.old.*"))


def place(path: str | os.PathLike) -> pathlib.Path:
    """The folder that `save` writes. Raises ValueError unless in its place is nothing,
    an empty one or a bundle alone."""
    folder = pathlib.Path(path).resolve()
    if any((folder / name).is_dir() for name in ("bundle", "checkpoints")):
        folder = folder / "bundle"
    if not folder.exists():
        return folder
    found = [folder]
    if folder.is_dir():
        found = [*_others(folder)]
        if not found and not (folder / FILES[1]).exists():
            found = [*folder.iterdir()]
    if found:
        names = ", ".join(str(p.relative_to(folder.parent)) for p in found[:3])
        raise ValueError(
            f"{folder} is not a bundle alone: saving there would delete {names}; move "
            f"that away, or write another folder"
        )
    return folder


def _others(folder):
    """What lies in a folder that is no part of a bundle."""
    for entry in sorted(folder.iterdir()):
        if entry.name == "tokenizers" and entry.is_dir():
            for part in sorted(entry.iterdir()):
                yield from _others(part) if part.is_dir() else [part]
        elif entry.name not in PARTS or not entry.is_file():
            yield entry


def _holds(folder, fresh):
    """Whether all files of `fresh` are in the folder, byte for byte."""
    for path in fresh.rglob("*"):
        there = folder / path.relative_to(fresh)
        if path.is_file() and not (there.is_file() and digest(path) == digest(there)):
            return False
    return True


def digest(path: pathlib.Path) -> bytes:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _write(folder, thing):
    folder.mkdir(parents=True, exist_ok=True)
    module = thing.network if isinstance(thing, Judge) else thing.module
    config = {"format": FORMAT, "module": describe(module)}
    if isinstance(thing, Judge):
        variables = {"params": thing.params}
        names = ("shape", "protocol", "front", "held_out")
        judged = {name: getattr(thing, name) for name in names}
        config |= {"kind": "classifier", "judge": describe(judged)}
    elif isinstance(thing, Codec):
        variables = thing.variables
        # Weights that were changed since are no longer those that it was made of.
        mark = fingerprint(variables)
        contract = dataclasses.replace(thing.contract, fingerprint=mark)
        config |= {"kind": "tokenizer", "contract": describe(contract)}
    else:
        variables = {"params": thing.params}
        config |= {
            "kind": "generator",
            "processes": {n: describe(p) for n, p in thing.processes.items()},
            "tokenizers": sorted(thing.codecs),
            "values": {n: describe(value) for n, value in thing.values.items()},
            "class_names": list(thing.class_names),
            "untrained": list(thing.untrained),
        }
        # What bundles of before do not say is not said of what is as they were.
        config |= {"left_out": list(thing.left_out)} if thing.left_out else {}
        config |= {"parts": list(thing.parts)} if thing.parts else {}
        solvers = {n: describe(each) for n, each in thing.solvers.items()}
        config |= {"solvers": solvers} if solvers else {}
        for name, codec in thing.codecs.items():
            _write(folder / "tokenizers" / name, codec)
    import safetensors.numpy  # who writes no bundle has no need of it

    flat = flatten(variables)
    for name, array in flat.items():
        check_finite(name, array)
    try:
        data = safetensors.numpy.save(flat)
    except safetensors.SafetensorError as error:  # of types that it has no word for
        raise ValueError(str(error)) from error
    config["sha256"] = hashlib.sha256(data).hexdigest()
    _flush(folder / "model.safetensors", data)
    config = sealed.sealed(config)
    _flush(folder / "config.json", json.dumps(config, indent=1).encode())


def check_finite(name: str, array: np.ndarray) -> None:
    """Raises ValueError, by the name, for numbers that are not finite."""
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return
    # A sum takes no copy, and is finite where all are; it may be too large, too.
    with np.errstate(all="ignore"):
        whole = np.isfinite(array.sum(dtype=np.complex128))
    if not whole and not np.isfinite(array.astype(np.complex128)).all():
        raise ValueError(f"{name} is not finite")


def _flush(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
