"""Bundles: a folder of config.json and model.safetensors, and what is drawn from it.

The library's only file access. A tokenizer's bundle carries its latent contract; a
generator's carries its tokenizers' bundles in tokenizers/NAME, so it is self-contained;
a classifier's what it judges.
Weights are hashed when written and checked when read; a folder appears whole or not at
all.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import numpy as np
import safetensors.numpy

from vqdit.codec import Codec, LatentContract
from vqdit.describe import build, describe
from vqdit.generator import Generator
from vqdit.judge import Judge

FORMAT = 1
FILES = ("config.json", "model.safetensors")


def load(path: str | os.PathLike) -> Codec | Generator | Judge:
    """Loads a bundle folder, or the bundle of a workdir.

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
        return _load(folder, config)
    except KeyError as error:
        raise ValueError(
            f"{folder}/config.json lacks {error}; copy it again"
        ) from error


def _load(folder, config):
    variables = _read(folder, config["sha256"])
    module = build(config["module"])
    if config["kind"] == "tokenizer":
        return Codec(module, variables, build(config["contract"]))
    if config["kind"] == "classifier":
        return Judge(module, variables["params"], **build(config["judge"]))
    names = config["tokenizers"]
    return Generator(
        module,
        variables["params"],
        {name: build(process) for name, process in config["processes"].items()},
        {name: load(folder / "tokenizers" / name) for name in names},
        tuple(config["class_names"]),
    )


def save(path: str | os.PathLike, thing: Codec | Generator | Judge) -> None:
    """Writes a bundle folder; one that is there goes once the new is whole.

    One of the very same files stays, and with it what others have laid beside them.
    """
    folder = pathlib.Path(path)
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


def fingerprint(variables: Mapping) -> str:
    """SHA-256 over the names, types, shapes and bytes of all leaves."""
    digest = hashlib.sha256()
    for name, leaf in sorted(_flatten(variables).items()):
        digest.update(f"{name} {leaf.dtype} {leaf.shape};".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


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
            "tokenizers": sorted(thing.tokenizers),
            "class_names": list(thing.class_names),
        }
        for name, codec in thing.tokenizers.items():
            _write(folder / "tokenizers" / name, codec)
    data = safetensors.numpy.save(_flatten(variables))
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


def _flatten(variables):
    flat = flax.traverse_util.flatten_dict(dict(variables), sep="/")
    return {name: np.asarray(leaf) for name, leaf in flat.items()}


def _flush(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def contract_of(module, signal: Mapping, grid, mean, std, variables) -> LatentContract:
    """The contract of a trained tokenizer; see LatentContract for the fields.

    signal: its kind and shape and, where it has them, rate, offset, scale, code_grid
        and preparation.
    """
    counts = () if module.quantizer is None else module.quantizer.code_counts
    return LatentContract(
        kind=signal["kind"],
        shape=tuple(signal["shape"]),
        grid=tuple(grid),
        channels=module.latent_dim,
        codes=tuple(counts),
        mean=tuple(float(m) for m in mean),
        std=tuple(float(s) for s in std),
        fingerprint=fingerprint(variables),
        code_grid=tuple(signal.get("code_grid", ())),
        rate=float(signal.get("rate", 0.0)),
        offset=tuple(float(v) for v in signal.get("offset", ())),
        scale=tuple(float(v) for v in signal.get("scale", ())),
        preparation=tuple(signal.get("preparation", ())),
    )


def refuse_mismatch(contract: LatentContract, other: LatentContract, where: str):
    """Raises ValueError naming the first field in which two contracts differ."""
    for field in dataclasses.fields(contract):
        mine, theirs = getattr(contract, field.name), getattr(other, field.name)
        if mine != theirs:
            raise ValueError(
                f"{where} was made under another tokenizer: its {field.name} is "
                f"{theirs}, the tokenizer's is {mine}; encode again or name the "
                f"tokenizer it was made with"
            )
