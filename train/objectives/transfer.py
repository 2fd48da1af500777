"""The weights of a trained model as the start of another's training."""

import dataclasses
import re
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from train.config.options.paths import diff
from train.errors import BadInput, some
from train.objectives.bundles import open_bundle
from train.progress import say
from vqdit.dit import DiT
from vqdit.tokenizer import PerFrame, Tokenizer
from vqdit.trained.codec import Codec
from vqdit.trained.generator import Generator
from vqdit.trained.stream_extractor import unrolled

COLLECTIONS = ("params", "codebook")
# What a stream of a transformer may have of its own, behind its name.
OWN = r"(mlp|(final_)?modulation(_table)?)"
STREAMS = ("params", "stream")  # a row each
# Fields of a transformer that change nothing of what the same parameters compute.
FREE = re.compile(
    r"(streams|classes|depth|dtype|remat|scan|block\.(own|implementation))\b"
).match


class Transfer:
    """Parameters and codebooks of a bundle, by their paths in a model of one's own.

    A tokenizer of pictures also starts one of clips: frame by frame its kernels are the
    same, and in a network that looks along time they become the present of its kernels,
    or their middle, and every other tap 0, so that it starts as the network of pictures
    that it was (MAGVIT's inflation, arXiv:2212.05199, section 3.1).

    A transformer also starts one of other streams, and of other classes, whose table of
    labels starts new. A stream that it does not have starts new; those that it has are
    as they were, whatever their order, as long as the new ones are not there to be
    seen; of rotary positions, as long as no new one has more axes, which is said. What
    each stream has of its own starts as what all shared (`Block.own`). Whether blocks
    are compiled as one (`DiT.scan`) is no matter; as one they are of as many blocks,
    and of others refused.

    classes: names of the labels, where known: a table of others starts new.

    Raises BadInput for a bundle that cannot be opened, or is of another kind.
    """

    def __init__(
        self, path: str, model: Tokenizer | DiT, classes: tuple[str, ...] = ()
    ):
        self.path, self.model = path, model
        self.bundle: Codec | Generator
        variables: dict[str, Any]
        if isinstance(model, Tokenizer):
            self.bundle = codec = open_bundle(path, Codec, "init")
            variables = codec.variables
        else:
            self.bundle = generator = open_bundle(path, Generator, "init")
            parts = generator.module, generator.params
            variables = {"params": unrolled(*parts, generator.module.depth)[1]}
        named = getattr(self.bundle, "class_names", ())
        self._relabelled = bool(classes and named and classes != named)
        held = {name: variables.get(name, {}) for name in COLLECTIONS}
        self._held = {
            _plain(place, self.bundle.module): np.asarray(leaf)
            for place, leaf in flax.traverse_util.flatten_dict(held).items()
        }

    def brings_codes(self, variables: dict[str, Any]) -> bool:
        """Whether the model's whole quantizer is among them, so that no codebook has to
        be made: another kind's is not, nor are fewer books."""
        flat = flax.traverse_util.flatten_dict(variables)
        own = (p for p in flat if p[0] in COLLECTIONS and p[1:2] == ("quantizer",))
        return all(_plain(place, self.model) in self._held for place in own)

    def into(self, variables: dict[str, Any]) -> dict[str, Any]:
        """The variables with every array that the bundle has; traceable.

        Raises BadInput where one has another shape there, or none is there.
        """
        flat, taken = flax.traverse_util.flatten_dict(variables), 0
        whole = self.brings_codes(variables)
        for place, leaf in flat.items():
            if place[-1] == "ready" and not whole:
                continue  # of books that are not brought k-means has to make some
            mine = self._taken(place, leaf)
            if place == STREAMS and self._rows():
                flat[place] = self._streams(mine, leaf)
                continue
            if place[0] not in COLLECTIONS or mine is None:
                continue
            flat[place] = self._fit(place, mine, leaf)
            taken += 1
        if not taken:
            raise BadInput(
                f"init: {self.path} has no array of this model; write the bundle of "
                f"one that is built alike"
            )
        return flax.traverse_util.unflatten_dict(flat)

    def check(self, variables: dict[str, Any]) -> list[str]:
        """Raises BadInput as training from this bundle would, before anything is made.

        variables: of the model, as shapes. Says, and returns, the paths of parameters
        and codes that the bundle does not have, in order.
        """
        self._check_streams()
        jax.eval_shape(self.into, variables)
        self._say_of_changes()
        news = sorted(
            "/".join(place[1:])
            for place, leaf in flax.traverse_util.flatten_dict(variables).items()
            if place[0] in COLLECTIONS and place[-1] != "ready"
            if self._taken(place, leaf) is None
            if place != STREAMS or not self._rows()
        )
        if news:
            say(f"init: {self.path} lacks {some(news)}; these start new")
        return news

    def _taken(self, place, leaf) -> np.ndarray | None:
        """The bundle's array for a place, None where it starts new."""
        if isinstance(self.model, DiT) and place[1:2] == ("blocks",):
            # A layer scan's, one row a block; here blocks are one by one.
            rows = []
            for i in range(self.bundle.module.depth):
                one = (place[0], f"block_{i:02d}", *place[2:])
                if (row := self._taken(one, leaf)) is None:
                    return None
                rows.append(row)
            return np.stack(rows)
        mine = self._held.get(_plain(place, self.model))
        if mine is None and isinstance(self.model, DiT):
            names = "|".join(stream.name for stream in self.model.streams)
            shared = [re.sub(rf"^({names})_(?={OWN}$)", "", part) for part in place]
            mine = self._held.get(tuple(shared))
        if mine is not None and place[-2:] == ("label", "table"):
            # Of other classes there is nothing to keep.
            other = self._relabelled or mine.shape != leaf.shape
            return None if other else mine
        return mine

    def _check_streams(self) -> None:
        """Raises BadInput where a stream has the name of another one there."""
        held = {s.name: s for s in getattr(self.bundle.module, "streams", ())}
        for stream in getattr(self.model, "streams", ()):
            pair = [_tokens(s) for s in (held.get(stream.name, stream), stream)]
            if pair[0] != pair[1]:
                old, new = (f"{kind} {fields}" for kind, fields in pair)
                raise BadInput(
                    f"init: {self.path} has a stream {stream.name!r} already, {old}, "
                    f"and this one is {new}; give a new stream a name of its own"
                )

    def _say_of_changes(self) -> None:
        """Of what makes the same parameters of a transformer compute otherwise. Rotary
        positions share a head's width among as many axes as any stream's grid has."""
        old, new = self.bundle.module, self.model
        if not isinstance(new, DiT):
            return
        changed = {n: pair for n, pair in diff(old, new).items() if not FREE(n)}
        if new.depth < old.depth:  # of more it is said which start new
            changed["depth"] = old.depth, new.depth
        if "rotary" in new.positions and old.axes != new.axes:
            changed["positions, axes of all"] = old.axes, new.axes
        for name, (was, now) in changed.items():
            say(
                f"init: model.{name}: {was} in {self.path}, and {now} here, so that "
                "what is brought computes otherwise than it was trained to"
            )

    def _rows(self) -> dict[int, int]:
        """Row of each stream -> its row in the bundle, of those that are there."""
        held = [s.name for s in getattr(self.bundle.module, "streams", ())]
        names = [s.name for s in getattr(self.model, "streams", ())]
        return {i: held.index(n) for i, n in enumerate(names) if n in held}

    def _streams(self, mine, leaf):
        """The table of streams; one that was alone there had no row, as if of zeros."""
        mine = np.zeros((1, *leaf.shape[1:])) if mine is None else mine
        if mine.shape[1:] != leaf.shape[1:]:
            return self._fit(STREAMS, mine, leaf)  # says so
        to, of = (np.array(each) for each in zip(*self._rows().items(), strict=True))
        return jnp.asarray(leaf).at[to].set(mine[of])

    def _fit(self, place, mine, leaf):
        if mine.shape == leaf.shape:
            return jnp.asarray(mine, leaf.dtype)
        if place[-1] == "kernel" and mine.shape == leaf.shape[1:]:
            owner = getattr(self.model, place[1], None)
            past = getattr(owner, "borders", ("",))[0] == "past"
            tap = leaf.shape[0] - 1 if past else leaf.shape[0] // 2
            return jnp.zeros_like(leaf).at[tap].set(mine)
        raise BadInput(
            f"init: {'/'.join(place[1:])} is {mine.shape} in {self.path} and "
            f"{leaf.shape} in this model; write the model that was trained there"
        )


def open_transfer(
    path: str | None, model: Tokenizer | DiT, begun: bool, classes: tuple[str, ...] = ()
) -> tuple[Transfer | None, str]:
    """(what training starts from, ""); (None, why) where a run that has begun does not
    find it any more: its checkpoints hold all that was taken of it.

    Raises BadInput as Transfer does for a run that begins.
    """
    if path is None:
        return None, ""
    try:
        return Transfer(path, model, classes), ""
    except BadInput as error:
        if not begun:
            raise
        return None, str(error)


def _tokens(stream) -> tuple[str, dict[str, Any]]:
    """What tokens a stream has, however many."""
    fields = dataclasses.asdict(stream)
    return stream.kind, {n: v for n, v in fields.items() if n not in ("name", "grid")}


def _plain(place: tuple[str, ...], model: Tokenizer | DiT) -> tuple[str, ...]:
    """A path as it is in a network of pictures."""
    owner = getattr(model, place[1], None) if len(place) > 1 else None
    return (*place[:2], *place[3:]) if isinstance(owner, PerFrame) else place
