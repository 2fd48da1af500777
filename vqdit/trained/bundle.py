"""Bundles: a folder of config.json and model.safetensors, and what is drawn from it.

The library's only file access. A tokenizer's bundle carries its latent contract; a
generator's carries its tokenizers' bundles in tokenizers/NAME, so it is self-contained;
a classifier's what it judges.
Weights and configuration are hashed when written and checked when read, and have to
fit each other; a folder appears whole or not at all.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Sequence
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from vqdit import sealed
from vqdit.trained import fit
from vqdit.trained.codec import Codec
from vqdit.trained.contract import LatentContract, fingerprint, flatten
from vqdit.trained.generator import Generator
from vqdit.trained.judge import Judge
from vqdit.values import Foreign, build, describe

FORMAT = 2
SEALED = 2  # the first format whose config.json is sealed
FILES = ("config.json", "model.safetensors")
PARTS = (*FILES, "prior.npz")  # which `train.compress --fit` lays beside them
KINDS = ("tokenizer", "generator", "classifier")
DTYPES = {
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{"BOOL": "bool", "C64": "complex64", "BF16": jnp.bfloat16},
}


class Refused(ValueError):
    """A bundle that is not loaded; the message is one line."""


def read_json(path: str | os.PathLike) -> Any:
    """The values of a JSON file, which anybody may have written.

    Raises FileNotFoundError where there is no file, and ValueError, in one line, for
    one that is too large, nested too deep, or no JSON.
    """
    path = pathlib.Path(path)
    if not path.is_file():  # nor a pipe, which nobody may ever write to
        raise FileNotFoundError(2, "No such file", str(path))
    size = path.stat().st_size
    if size > sealed.LARGEST:
        raise ValueError(f"it has {size:,} bytes; there may be {sealed.LARGEST:,}")
    return sealed.parsed(path.read_bytes())


def load(
    path: str | os.PathLike, packages: Sequence[str] = ()
) -> Codec | Generator | Judge:
    """Loads a bundle folder, or the bundle of a workdir.

    packages: of your own, whose modules and dataclasses it may be made of; their code
        is imported.

    Raises ValueError, in one line, when there is none, it is of another format, it is
    not what was written, or its parts do not fit each other. What is in the folder can
    be anything: no more is read or computed than what it says of itself bears out.
    """
    folder = pathlib.Path(path)
    if not (folder / "config.json").is_file() or (folder / "bundle").is_dir():
        folder = folder / "bundle"
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{path}: no bundle here; write a bundle folder, or a workdir whose "
            f"training has finished"
        )
    return _open(folder, KINDS, functools.partial(build, packages=("vqdit", *packages)))


def _open(folder, kinds, built):
    """What is in a bundle's folder, of one of these kinds; `built` is its `build`."""
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}/config.json: {error}") from error
    if not isinstance(config, dict) or "format" not in config:
        raise ValueError(
            f"{folder}: no bundle here yet; finish its training, or write a bundle "
            f"folder"
        )
    version = config["format"]
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise ValueError(
            f"{folder} has format {version!r}; this version reads format 1 to {FORMAT}"
        )
    try:
        config = sealed.opened(config, needed=version >= SEALED)
    except ValueError as error:
        raise ValueError(
            f"{folder}/config.json: {error}; copy the bundle again, and change a model "
            f"through vqdit.save"
        ) from error
    if config.get("kind") not in kinds:
        raise ValueError(f"{folder} is no {' or '.join(kinds)}")
    try:
        return _load(folder, config, built)
    except Refused:
        raise
    except Foreign as error:
        raise Refused(
            f"{folder}: {error}; if it is your own, write packages=({error.args[1]!r},)"
        ) from error
    except Exception as error:  # what is written there may be of any type and shape
        line = " ".join(str(error).split()) or "it makes no sense"
        if not isinstance(error, ValueError):
            line = f"{type(error).__name__} {line}"
        raise Refused(f"{folder} is no whole bundle: {line[:300]}") from error


def _load(folder, config, built):
    module, kind = built(config["module"]), config["kind"]
    stored = _headers(folder, config["sha256"])
    if kind == "tokenizer":
        contract = built(config["contract"])
        if not isinstance(contract, LatentContract):
            raise ValueError("its contract is none")
        fit.tokenizer(module, contract, stored)
        variables = _read(folder)
        if fingerprint(variables) != contract.fingerprint:
            raise ValueError("its contract is of other weights than these")
        return Codec(module, variables, contract)
    if kind == "classifier":
        judged = built(config["judge"])
        fit.judge(module, judged, stored)
        return Judge(module, _read(folder)["params"], **judged)
    processes = fit.by_name(config["processes"], "processes")
    values = fit.by_name(config.get("values", {}), "values")
    solvers = config.get("solvers", {})
    tokenizers = {
        name: _open(fit.inside(folder, name), KINDS[:1], built)
        for name in fit.names(config["tokenizers"], "tokenizers")
    }
    class_names = fit.names(config["class_names"], "class_names", plain=False)
    tokenizers |= {name: built(value) for name, value in values.items()}
    fit.generator(module, stored)
    return Generator(
        module,
        _read(folder)["params"],
        {name: built(process) for name, process in processes.items()},
        tokenizers,
        class_names,
        fit.labels(config.get("untrained", [])),
        fit.names(config.get("left_out", []), "left_out"),
        fit.names(config.get("parts", []), "parts"),
        {n: built(each) for n, each in fit.by_name(solvers, "solvers").items()},
    )


def save(path: str | os.PathLike, thing: Codec | Generator | Judge) -> None:
    """Writes a bundle folder; one that is there goes once the new is whole.

    One of the very same files stays, and with it what others have laid beside them.
    A workdir means its bundle, as in `load`. Raises ValueError where there is something
    else, which is left as it is, and where a weight is not finite.
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
    flat = flatten(variables)
    for name, array in flat.items():
        _check_finite(name, array)
    data = safetensors.numpy.save(flat)
    config["sha256"] = hashlib.sha256(data).hexdigest()
    _flush(folder / "model.safetensors", data)
    config = sealed.sealed(config)
    _flush(folder / "config.json", json.dumps(config, indent=1).encode())


def _headers(folder, sha256):
    """Path -> (type, shape) of every array that the weights' file says it holds."""
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ValueError("it has no model.safetensors")
    if _digest(path).hex() != sha256:
        raise ValueError(
            "its model.safetensors is not what was written (its SHA-256 differs from "
            "config.json's): copy the bundle again"
        )
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > sealed.LARGEST:
            raise ValueError("the header of its model.safetensors is too large")
        header = json.loads(file.read(size))
    end, found = 0, {}
    for name, of in header.items():
        if name != "__metadata__":
            found[name] = (np.dtype(DTYPES[of["dtype"]]), tuple(of["shape"]))
            end = max(end, *of["data_offsets"])
    if 8 + size + end != path.stat().st_size:
        raise ValueError("its model.safetensors is cut short, or longer than it says")
    return found


def _read(folder):
    data = (folder / "model.safetensors").read_bytes()
    flat = {}
    for name, of in safetensors.deserialize(data):
        array = np.frombuffer(of["data"], DTYPES[of["dtype"]]).reshape(of["shape"])
        _check_finite(name, array)
        flat[name] = array
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def _check_finite(name, array):
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
