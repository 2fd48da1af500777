"""The latent contract: what stage two must know of a tokenizer's latents."""

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.traverse_util
import numpy as np

from vqdit.fields import FILLED, Checked, Count, Finite, NonNegative, Positive

MOST = 2**30  # values of an example, or of its codes: four times as many bytes
Sides = Annotated[tuple[Count, ...], FILLED]


@dataclasses.dataclass(frozen=True)
class LatentContract(Checked):
    """What stage two must know of stage one, and refuses to be wrong about.

    kind:        of signal, such as "image" or "audio".
    shape:       of one example, channels last, such as (h, w, c).
    grid:        of its latents.
    channels:    of a latent.
    codes:       code count of each book; () for a continuous tokenizer.
    mean, std:   per channel of the continuous latents over the training set.
    fingerprint: of the weights (see `vqdit.trained.contract.fingerprint`).
    code_grid:   of its codes; left out, that of its latents.
    rate:        samples or frames a second; 0 where it means nothing.
    offset, scale: per channel of the signal, (raw - offset) / scale; () where raw
        values are the signal. Of the training set, and used as they are ever after.
    preparation: (name, value) of what else was done to a file's values before that,
        such as ("far", 80.0), as the data says; () where nothing was, or is known.
    names:       of the signal's first channels, as its files call them, or (). They say
        nothing of its values, and contracts that differ in them alone are equal.
    """

    kind: str
    shape: Sides
    grid: Sides
    channels: Count
    codes: tuple[Count, ...]
    mean: tuple[Finite, ...]
    std: tuple[Positive, ...]
    fingerprint: str
    code_grid: tuple[Count, ...] = ()
    rate: NonNegative = 0.0
    offset: tuple[Finite, ...] = ()
    scale: tuple[Positive, ...] = ()
    preparation: tuple[tuple[str, Any], ...] = ()
    names: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    def __post_init__(self):
        super().__post_init__()
        if not self.code_grid:
            object.__setattr__(self, "code_grid", self.grid)
        for name in ("kind", "fingerprint"):
            self.check(name, isinstance(getattr(self, name), str), "write a text")
        for name in ("mean", "std"):
            each = len(getattr(self, name)) == self.channels
            self.check(name, each, f"write one of each of {self.channels} channels")
        for name in ("offset", "scale"):
            fits = len(getattr(self, name)) in (0, 1, self.shape[-1])
            self.check(name, fits, f"write one of each of {self.shape[-1]} channels")
        paired = len(self.offset) == len(self.scale)
        self.check("scale", paired, f"offset={self.offset} needs as many")
        few = math.prod(self.shape) <= MOST
        self.check("shape", few, f"an example has at most {MOST:,} values")
        few = math.prod(self.code_grid) * max(1, len(self.codes)) <= MOST
        self.check("code_grid", few, f"an example has at most {MOST:,} codes")
        pairs = all(len(p) == 2 and isinstance(p[0], str) for p in self.preparation)
        self.check("preparation", pairs, "write pairs of a name and a value")
        some = len(self.names) <= self.shape[-1]
        self.check("names", some, f"write one of each of {self.shape[-1]} channels")

    def stream(self, kind: Literal["latents", "codes"]) -> dict[str, Any]:
        """Fields of the stream that holds its latents, or its codes.

        Raises ValueError for codes of books of different sizes, and of none.
        """
        if kind == "latents":
            return {"grid": self.grid, "channels": self.channels}
        if len(set(self.codes)) != 1:
            raise ValueError(
                f"the tokenizer's books have {self.codes} codes: a stream of codes "
                f"needs books of one size"
            )
        books = len(self.codes)
        return {"grid": self.code_grid, "vocab": self.codes[0], "books": books}

    @property
    def bits(self) -> float:
        """Bits of one example's codes at a fixed length; 0 when continuous."""
        return math.prod(self.code_grid) * sum((math.log2(k) for k in self.codes), 0.0)


def fingerprint(variables: Mapping) -> str:
    """SHA-256 over the names, types, shapes and bytes of all leaves."""
    digest = hashlib.sha256()
    for name, leaf in sorted(flatten(variables).items()):
        digest.update(f"{name} {leaf.dtype} {leaf.shape};".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def flatten(variables: Mapping) -> dict[str, np.ndarray]:
    """Path, such as params/encoder/conv_in/kernel, -> array."""
    flat = flax.traverse_util.flatten_dict(dict(variables), sep="/")
    return {name: np.asarray(leaf) for name, leaf in flat.items()}


def contract_of(module, signal: Mapping, grid, mean, std, variables) -> LatentContract:
    """The contract of a trained tokenizer; see LatentContract for the fields.

    signal: its kind and shape and, where it has them, rate, offset, scale, code_grid,
        preparation and names.
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
        names=tuple(signal.get("names", ())),
    )


def refuse_mismatch(contract: LatentContract, other: LatentContract, where: str):
    """Raises ValueError naming the first field in which two contracts differ."""
    for field in (each for each in dataclasses.fields(contract) if each.compare):
        mine, theirs = getattr(contract, field.name), getattr(other, field.name)
        if mine != theirs:
            raise ValueError(
                f"{where} was made under another tokenizer: its {field.name} is "
                f"{theirs}, the tokenizer's is {mine}; encode again or name the "
                f"tokenizer it was made with"
            )
