"""What stands beside the arrays of a checkpoint, and whether they are those.

The manifest holds the step, the position in the data, the caller's notes, and of every
array its shape, type and fingerprint. It is sealed by a hash of its own text.
"""

import hashlib
import json
from typing import Any

import jax
from etils import epath

from train.errors import BadInput, some
from train.runtime.checkpoint.fingerprint import fingerprints
from train.runtime.sharding import path_name

FORMAT = 1


def sealed_manifest(step: int, position: int, meta: dict, leaves: dict) -> dict:
    """leaves: path of an array -> what `fingerprints` says of it."""
    of = {"format": FORMAT, "step": step, "position": position}
    return _sealed(of | {"meta": meta, "leaves": leaves})


def unsealed(manifest: dict, step: int, path: epath.Path) -> dict:
    """What was sealed. Raises ValueError where it was altered, and BadInput where
    another version wrote it.

    path: the checkpoint's, to be named.
    """
    seal = manifest.pop("sha256", None)
    if _sealed(manifest)["sha256"] != seal or manifest["step"] != step:
        raise ValueError("its manifest was altered")
    if not _sensible(manifest):
        raise ValueError("its manifest makes no sense")
    if manifest["format"] != FORMAT:
        raise BadInput(
            f"checkpoint {path} has format {manifest['format']}, this program reads "
            f"{FORMAT}; use the version that wrote it"
        )
    return manifest


def compare(manifest: dict, like: Any, path: epath.Path) -> None:
    """Raises BadInput unless the checkpoint has the names, shapes and types of `like`.

    Orbax itself would cast float32 into bfloat16 without a word.
    """
    named, _ = jax.tree_util.tree_flatten_with_path(like)
    wanted = {path_name(p): f"{x.dtype}{list(x.shape)}" for p, x in named}
    stored = {n: f"{x['dtype']}{x['shape']}" for n, x in manifest["leaves"].items()}
    different = [
        f"{name} is {stored.get(name, 'absent')}, not {wanted.get(name, 'wanted')}"
        for name in sorted(wanted.keys() | stored.keys())
        if wanted.get(name) != stored.get(name)
    ]
    if different:
        raise BadInput(
            f"checkpoint {path} is of another model: {some(different)}; use the "
            f"configuration that wrote it, or write another --workdir"
        )


def altered(state: Any, manifest: dict) -> list[str]:
    """Paths of arrays that are not those that were saved."""
    leaves = manifest["leaves"]
    return [
        name
        for name, leaf in fingerprints(state).items()
        if leaf["fingerprint"] != leaves[name]["fingerprint"]
    ]


def _sensible(manifest: dict) -> bool:
    """Whether what is in a manifest is of the types that are written there."""
    position, leaves = manifest["position"], manifest["leaves"]
    if type(position) is not int or position < 0 or type(manifest["meta"]) is not dict:
        return False
    kinds = {"shape": list, "dtype": str, "fingerprint": str}
    return all(
        type(leaf[name]) is kind
        for leaf in leaves.values()
        for name, kind in kinds.items()
    )


def _sealed(manifest: dict) -> dict:
    """The manifest with a hash of its own text."""
    text = json.dumps(manifest, sort_keys=True)
    seal = hashlib.sha256(text.encode()).hexdigest()
    return json.loads(text) | {"sha256": seal}
