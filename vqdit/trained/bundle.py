"""Bundles: a folder of config.json and model.safetensors, and what is read from it.

With `saving`, which writes them, the library's only file access. A tokenizer's bundle
carries its latent contract; a generator's its tokenizers' bundles in tokenizers/NAME,
so it is self-contained; a classifier's what it judges.
Weights and configuration are hashed when written and checked when read, and have to
fit each other; a folder appears whole or not at all.
"""

import functools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from vqdit import sealed
from vqdit.fields import told
from vqdit.trained import fit
from vqdit.trained.codec import Codec
from vqdit.trained.contract import LatentContract, fingerprint
from vqdit.trained.generator import Generator
from vqdit.trained.judge import Judge
from vqdit.trained.placement import Placement
from vqdit.trained.saving import (
    FILES,
    FORMAT,
    check_finite,
    digest,
    is_going,
    place,
    save,
    stamp,
)
from vqdit.values import Foreign, build

__all__ = ["load", "save", "place", "read_json", "FILES"]

TRIES = 3  # of reading a bundle that others replace
SEALED = 2  # the first format whose config.json is sealed
KINDS = ("tokenizer", "generator", "classifier")
DTYPES = {
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{"BOOL": "bool", "C64": "complex64", "BF16": jnp.bfloat16},
    **{"F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2},
    **{"F8_E4M3FNUZ": jnp.float8_e4m3fnuz, "F8_E5M2FNUZ": jnp.float8_e5m2fnuz},
    "F8_E8M0": jnp.float8_e8m0fnu,
}


class Refused(ValueError):
    """A bundle that is not loaded; the message is one line."""


def read_json(path: str | os.PathLike) -> Any:
    """The values of a JSON file, which anybody may have written.

    Raises FileNotFoundError where there is nothing, and ValueError, in one line, for
    what is no file, too large, nested too deep, or no JSON.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        if path.exists():  # a pipe, which nobody may ever write to
            raise ValueError(f"it is a {'folder' if path.is_dir() else 'device'}")
        raise FileNotFoundError(2, "No such file", str(path))
    size = path.stat().st_size
    if size > sealed.LARGEST:
        raise ValueError(f"it has {size:,} bytes; there may be {sealed.LARGEST:,}")
    return sealed.parsed(path.read_bytes())


def load(
    path: str | os.PathLike,
    packages: Sequence[str] = (),
    *,
    dtype: DTypeLike | None = None,
    device: jax.Device | jax.sharding.Sharding | None = None,
) -> Codec | Generator | Judge:
    """Loads a bundle folder, or the bundle of a workdir.

    packages: of your own, whose modules and dataclasses it may be made of; their code
        is imported.
    dtype:  "bfloat16" or "float32", in which its networks compute and their parameters
        are held; None for those it was trained with. Quantizers and all that is no
        parameter stay float32, so that codes mean the same, and so does a classifier,
        whose figures are of its weights as they are.
    device: a device, or a sharding that fits every array, such as a replicated one, to
        hold them; they go there at once, and what is computed follows them.

    Raises ValueError, in one line, when there is none, it is of another format, it is
    not what was written, or its parts do not fit each other. What is in the folder can
    be anything: no more is read or computed than what it says of itself bears out.
    """
    how = Placement(dtype, device)
    folder = pathlib.Path(path)
    inside = folder / "bundle"
    if inside.is_dir() or is_going(inside) or stamp(folder) is None:
        folder = inside
    built = functools.partial(build, packages=("vqdit", *packages))
    for _ in range(TRIES):
        there = stamp(folder)
        if there is None:
            raise ValueError(
                f"{path}: no bundle here; write a bundle folder, or a workdir whose "
                f"training has finished"
            )
        try:
            found = _open(folder, KINDS, built, how)
        except ValueError:
            if stamp(folder) == there:
                raise
        else:
            if stamp(folder) == there:  # else its files may be of two
                return found
    raise ValueError(f"{folder} is replaced while it is read; load it again later")


def _open(folder, kinds, built, how):
    """What is in a bundle's folder, of one of these kinds; `built` is its `build`,
    `how` its Placement."""
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
        return _load(folder, config, built, how)
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
        raise Refused(f"{folder} is no whole bundle: {told(line)}") from error


def _load(folder, config, built, how):
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
        return Codec(how.module(module), how.variables(variables), contract)
    if kind == "classifier":
        judged = built(config["judge"])
        fit.judge(module, judged, stored)
        return Judge(module, how.placed(_read(folder)["params"]), **judged)
    processes = fit.by_name(config["processes"], "processes")
    values = fit.by_name(config.get("values", {}), "values")
    solvers = config.get("solvers", {})
    tokenizers = {
        name: _open(fit.inside(folder, name), KINDS[:1], built, how)
        for name in fit.names(config["tokenizers"], "tokenizers")
    }
    class_names = fit.names(config["class_names"], "class_names", plain=False)
    tokenizers |= {name: built(value) for name, value in values.items()}
    fit.generator(module, stored)
    return Generator(
        how.module(module),
        how.variables(_read(folder))["params"],
        {name: built(process) for name, process in processes.items()},
        tokenizers,
        class_names,
        fit.labels(config.get("untrained", [])),
        fit.names(config.get("left_out", []), "left_out"),
        fit.names(config.get("parts", []), "parts"),
        {n: built(each) for n, each in fit.by_name(solvers, "solvers").items()},
    )


def _headers(folder, sha256):
    """Path -> (type, shape) of every array that the weights' file says it holds."""
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ValueError("it has no model.safetensors")
    if digest(path).hex() != sha256:
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
    import safetensors  # who opens no bundle has no need of it

    data = (folder / "model.safetensors").read_bytes()
    flat = {}
    for name, of in safetensors.deserialize(data):
        array = np.frombuffer(of["data"], DTYPES[of["dtype"]]).reshape(of["shape"])
        check_finite(name, array)
        flat[name] = array
    return flax.traverse_util.unflatten_dict(flat, sep="/")
