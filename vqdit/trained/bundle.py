"""Bundles: a folder of config.json and model.safetensors, and what is drawn from it.

The library's only file access. A tokenizer's bundle carries its latent contract; a
generator's carries its tokenizers' bundles in tokenizers/NAME, so it is self-contained;
a classifier's what it judges.
Weights are hashed when written and checked when read; a folder appears whole or not at
all.
"""

import hashlib
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Sequence
from typing import Any

import flax.traverse_util
import safetensors.numpy

from vqdit.trained.codec import Codec
from vqdit.trained.contract import flatten
from vqdit.trained.generator import Generator
from vqdit.trained.judge import Judge
from vqdit.values import Foreign, build, describe

FORMAT = 1
FILES = ("config.json", "model.safetensors")
PARTS = (*FILES, "prior.npz")  # which `train.compress --fit` lays beside them


def load(
    path: str | os.PathLike, packages: Sequence[str] = ()
) -> Codec | Generator | Judge:
    """Loads a bundle folder, or the bundle of a workdir.

    packages: of your own, whose modules and dataclasses it may be made of; their code
        is imported.

    Raises ValueError, in one line, when there is none, it is of another format, or its
    weights are not those it was written with.
    """
    folder = pathlib.Path(path)
    if not (folder / "config.json").exists() or (folder / "bundle").is_dir():
        folder = folder / "bundle"
    if not (folder / "config.json").exists():
        raise ValueError(
            f"{path}: no bundle here; write a bundle folder, or a workdir whose "
            f"training has finished"
        )
    try:
        config = json.loads((folder / "config.json").read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder}/config.json is not JSON: {error}") from error
    if not isinstance(config, dict) or "format" not in config:
        raise ValueError(
            f"{path}: no bundle here yet; finish its training, or write a bundle folder"
        )
    if config["format"] != FORMAT:
        raise ValueError(
            f"{folder} has format {config['format']}; this version reads format "
            f"{FORMAT}"
        )
    try:
        return _load(folder, config, packages)
    except Foreign as error:
        raise ValueError(
            f"{error}; if it is your own, write packages=({error.args[1]!r},)"
        ) from error
    except KeyError as error:
        raise ValueError(
            f"{folder}/config.json lacks {error}; copy it again"
        ) from error


def _load(folder, config, packages):
    built = lambda data: build(data, ("vqdit", *packages))
    variables = _read(folder, config["sha256"])
    module = built(config["module"])
    if config["kind"] == "tokenizer":
        return Codec(module, variables, built(config["contract"]))
    if config["kind"] == "classifier":
        return Judge(module, variables["params"], **built(config["judge"]))
    names = config["tokenizers"]
    return Generator(
        module,
        variables["params"],
        {name: built(process) for name, process in config["processes"].items()},
        {name: load(folder / "tokenizers" / name, packages) for name in names}
        | {name: built(value) for name, value in config.get("values", {}).items()},
        tuple(config["class_names"]),
        config.get("untrained", ()),
    )


def save(path: str | os.PathLike, thing: Codec | Generator | Judge) -> None:
    """Writes a bundle folder; one that is there goes once the new is whole.

    One of the very same files stays, and with it what others have laid beside them.
    A workdir means its bundle, as in `load`. Raises ValueError where there is something
    else, which is left as it is.
    """
    folder = _place(path)
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
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
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _place(path):
    """The folder to write, in whose place is nothing, an empty one or a bundle."""
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
            f"{folder} is not a bundle alone: saving there would delete {names}; write "
            f"another folder"
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
        if path.is_file() and not (there.is_file() and _digest(path) == _digest(there)):
            return False
    return True


def _digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _write(folder, thing):
    folder.mkdir(parents=True)
    module = thing.network if isinstance(thing, Judge) else thing.module
    config: dict[str, Any] = {"format": FORMAT, "module": describe(module)}
    if isinstance(thing, Judge):
        variables = {"params": thing.params}
        judged = {name: getattr(thing, name) for name in ("shape", "protocol", "front")}
        config |= {"kind": "classifier", "judge": describe(judged)}
    elif isinstance(thing, Codec):
        variables = thing.variables
        config |= {"kind": "tokenizer", "contract": describe(thing.contract)}
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
        for name, codec in thing.codecs.items():
            _write(folder / "tokenizers" / name, codec)
    data = safetensors.numpy.save(flatten(variables))
    config["sha256"] = hashlib.sha256(data).hexdigest()
    _flush(folder / "model.safetensors", data)
    _flush(folder / "config.json", json.dumps(config, indent=1).encode())


def _read(folder, sha256):
    try:
        data = (folder / "model.safetensors").read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"{folder} has no model.safetensors") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(
            f"{folder}/model.safetensors is not what was written (its SHA-256 differs "
            f"from config.json's): copy the bundle again"
        )
    flat = safetensors.numpy.load(data)
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def _flush(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
