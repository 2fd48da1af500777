"""The diffusion transformer over streams.

Peebles & Xie 2022, arXiv:2212.09748 (adaLN-Zero), with one time per stream as in
UniDiffuser (arXiv:2303.06555): a stream at t = 0 is given, at t = 1 absent. The network
holds no loss and no schedule.
"""

import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vqdit.fields import Checked, Count, Natural
from vqdit.nn import embedding, rotary
from vqdit.nn.block import (
    Block,
    Identity,
    ModulatedNorm,
    add_table,
    by_stream,
    per_token,
)
from vqdit.nn.patching import on_grid, patchify, unpatchify
from vqdit.nn.remat import Remat, recomputed, remat_by_word
from vqdit.nn.streams import Continuous, Discrete
from vqdit.shapes import Array, Float, Int

__all__ = ["DiT"]

xavier = nn.initializers.xavier_uniform()
zeros = nn.initializers.zeros_init()

# Fields that are the block's today.
_OLD = {"heads", "mlp_ratio", "qk_norm"}


class DiT(Checked, nn.Module):
    """Maps a dict of corrupted streams and their times to a dict of predictions.

    streams:    what goes in and out; an experiment's are added when its tokenizers are
                known.
    width:      channels of a token; the block's heads divide it.
    depth:      blocks.
    block:      a prototype; every layer is a copy of it.
    classes:    0 for none; label `classes` is the null class that guidance uses.
    positions:  "sincos" adds fixed tables to the tokens, as DiT, and "learned" learned
                ones; "rotary" turns queries and keys instead, "sincos_rotary" does
                both, as LightningDiT (arXiv:2501.01423). No field of the block, which
                knows no grid: tables are added once, and angles handed to every block.
    time_scale: of `TimeEmbedding`.
    intervals:  a time is a pair (t, s), the ends of the step that is asked for, s the
                earlier; t - s is embedded too (MeanFlow, arXiv:2505.13447, section 4).
    dtype:      of activations and matrix products; parameters, norms' statistics,
                softmax and outputs are float32.
    remat:      what of a block the backward pass computes again: the whole, or all but
                what this one of `jax.checkpoint_policies` keeps; None for nothing.
    scan:       one compiled block for all depths; parameters gain a leading axis.
    """

    streams: tuple[Continuous | Discrete, ...] = ()
    width: Count = 384
    depth: Count = 12
    block: Block = Block()
    classes: Natural = 0
    positions: Literal["sincos", "learned", "rotary", "sincos_rotary"] = "sincos"
    time_scale: float = 1000.0
    intervals: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat | None = None
    scan: bool = False

    @staticmethod
    def upgraded(fields: dict) -> dict:
        """Fields as a file has them, the block's among them in files of version 0.1."""
        fields = dict(remat_by_word(fields))
        old = {name: fields.pop(name) for name in _OLD & set(fields)}
        if old:
            old["qk_norm"] = "rms" if old.get("qk_norm") else None
            fields["block"] = {"class": "vqdit.Block", "fields": old}
        return fields

    @nn.compact
    def __call__(
        self,
        streams: dict[str, Array],
        times: dict[str, Float[Array, "b *lead_ends"]],
        label: Int[Array, "b"] | None = None,
        known: dict[str, Array] | None = None,
    ) -> dict[str, Array]:
        """streams: name -> (b, *grid, c) latents or (b, *grid, m) codes. All of them at
        init; later those that nobody needs may be left out.

        times: name -> (b,), or (b, *lead), where `lead` are the first axes of the grid,
        some or all: frames, or places, have times of their own, and a token is as late
        as the latest of its places. Each row modulates for itself: as many as tokens
        cost half a block more. Of intervals there are two, (b, 2) or (b, *lead, 2).
        label: (b,) in [0, classes]; None is the null class. known: name -> (b,) or (b,
        *grid), true where there is something; no output depends on what stands
        elsewhere. A stream without one is known whole.
        Returns name -> (b, *grid, c * outputs) or logits (b, *grid, m, vocab), float32.
        Raises ValueError on streams that are not the module's own.
        """
        known = {} if known is None else known
        given = self._check(streams, times, known)
        known = {n: on_grid(v, streams[n].shape[1:-1]) for n, v in known.items()}
        tokens = [self._embed(s, streams[s.name], known.get(s.name)) for s in given]
        x = Identity(name="embedded")(jnp.concatenate(tokens, axis=1))
        # Of each stream the times of its tokens, in rows of equally many.
        rows = [self._rows(s, times[s.name]) for s in given]
        count = [row.shape[1] for row in rows]
        sizes = [math.prod(s.coarse) for s in given]
        each = [n // k for n, k in zip(sizes, count, strict=True)]
        lengths = tuple(np.repeat(each, count).tolist())
        owners = tuple(np.repeat([s.name for s in given], count).tolist())
        c = self._condition(rows, owners, label, x.shape[0])
        layer = {
            "lengths": lengths,
            "owners": owners,
            "rotary": self._rotary(given) if "rotary" in self.positions else None,
            "known": _seen(given, known, x.shape[0]),
        }
        x = self._stack(x, c, layer)

        def final(own, c):
            name = f"{own}final_modulation"
            if self.block.modulation == "single":
                return add_table(self, f"{name}_table", jnp.tile(c, 2), 2)
            return self._modulation(name, 2, zeros)(nn.silu(c))

        mods = self._modulated(final, c, owners)
        shift, scale = jnp.split(per_token(mods, lengths), 2, axis=-1)
        b = self.block
        norm = ModulatedNorm(b.norm, b.norm_scale, b.implementation, name="final_norm")
        x = norm(x, scale, shift)

        parts = jnp.split(x, np.cumsum(sizes)[:-1], axis=1)
        return {s.name: self._read(s, y) for s, y in zip(given, parts, strict=True)}

    def _embed(self, stream, x, known):
        name = f"{stream.name}_in"
        if isinstance(stream, Continuous):
            if known is not None:
                x = jnp.where(known[..., None], x, 0)
            x = patchify(x.astype(self.dtype), stream.patch)
            x = nn.Dense(self.width, kernel_init=xavier, dtype=self.dtype, name=name)(x)
        else:
            if known is not None:
                x = jnp.where(known[..., None], x, stream.vocab)
            # One table per book, all in one array; row vocab is the mask token.
            init = nn.initializers.normal(stream.books**-0.5 * 0.5)
            shape = (stream.vocab + 1, stream.books, self.width)
            x = embedding.CodeEmbedding(*shape, init, name=name)(x).astype(self.dtype)
        if self.positions == "learned":
            name, shape = f"{stream.name}_positions", (x.shape[1], self.width)
            x = x + self.param(name, embedding.normal, shape).astype(x.dtype)
        elif "sincos" in self.positions:
            table = embedding.sincos_positions(stream.coarse, self.width)
            x = x + table.astype(x.dtype)
        return x

    def _rows(self, stream, t):
        """(b, k) or (b, k, 2): as many times as the tokens have, in their order."""
        t = t if self.intervals else t[..., None]
        t = patchify(t, stream.patch)
        latest = t.reshape(*t.shape[:2], -1, 1 + self.intervals).max(axis=2)
        return latest if self.intervals else latest[..., 0]

    def _condition(self, rows, owners, label, batch):
        t = jnp.concatenate(rows, axis=1)
        embed = lambda t, name: embedding.TimeEmbedding(
            self.width, self.time_scale, dtype=self.dtype, name=name
        )(t)
        if self.intervals:
            c = embed(t[..., 0], "time") + embed(t[..., 0] - t[..., 1], "duration")
        else:
            c = embed(t, "time")
        if len(self.streams) > 1:
            shape = (len(self.streams), self.width)
            names = [s.name for s in self.streams]
            # No index, whose gradient a GPU sums in an order of its own every time.
            own = np.array([[name == owner for name in names] for owner in owners])
            table = self.param("stream", embedding.normal, shape)
            own = jnp.where(own[..., None], table, 0.0).sum(1)
            c = c + own.astype(c.dtype)
        if self.classes:
            if label is None:
                label = jnp.full((batch,), self.classes, jnp.int32)
            table = embedding.LabelEmbedding(self.classes, self.width, name="label")
            c = c + table(label)[:, None].astype(c.dtype)
        return c

    def _modulation(self, name, parts, init):
        width = parts * self.width
        return nn.Dense(width, kernel_init=init, dtype=self.dtype, name=name)

    def _modulated(self, project, c, owners):
        """c through a projection that all streams share, or each its own."""
        own = "modulation" in self.block.own
        return by_stream(project, c, owners, (1,) * len(owners), own)

    @property
    def axes(self) -> int:
        """Of rotary positions, those of streams with fewer padded."""
        return max([1, *(len(s.grid) for s in self.streams)])

    def _rotary(self, given):
        positions = []
        for s in given:
            n = math.prod(s.coarse)
            index = np.indices(s.coarse, int).reshape(len(s.coarse), n).T
            positions.append(np.pad(index, ((0, 0), (0, self.axes - index.shape[1]))))
        width = self.width // self.block.heads
        return jnp.asarray(rotary.rotary_table(np.concatenate(positions), width))

    def _stack(self, x, c, layer):
        if self.block.modulation == "single":
            c = self._modulated(
                lambda own, c: self._modulation(
                    f"{own}modulation", self.block.parts, embedding.normal
                )(nn.silu(c)),
                c,
                layer["owners"],
            )
        call = lambda block, x, c: block(x, c, **layer)
        call = recomputed(call, self.remat, prevent_cse=not self.scan)
        copy = lambda name: self.block.clone(parent=self, name=name)
        if not self.scan:
            for i in range(self.depth):
                x = call(copy(f"block_{i:02d}"), x, c)
            return x
        stack = nn.scan(
            lambda block, x, _: (call(block, x, c), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth,
        )
        return stack(copy("blocks"), x, None)[0]

    def _read(self, stream, x):
        # The head runs in float32, whose products accelerators round unless told: it is
        # small, and its output meets the loss.
        x = nn.Dense(
            stream.out_width,
            kernel_init=zeros,
            dtype="float32",
            precision="highest",
            name=f"{stream.name}_out",
        )(x)
        if isinstance(stream, Continuous):
            return unpatchify(x, stream.grid, stream.patch)
        return x.reshape(x.shape[0], *stream.grid, stream.books, stream.vocab)

    def _check(self, streams, times, known):
        """The streams of this call, in the module's order."""
        names = {s.name for s in self.streams}
        if len(names) != len(self.streams) or not names:
            raise ValueError("DiT.streams needs at least one stream, each its own name")
        wanted = names if self.is_initializing() else names & set(streams)
        if set(streams) != (wanted or names) or set(times) != set(streams):
            raise ValueError(
                f"the DiT's streams are {sorted(names)}; got streams {sorted(streams)} "
                f"and times {sorted(times)}"
            )
        if not set(known) <= set(streams):
            raise ValueError(
                f"known says what is known of {sorted(known)}; the streams of this "
                f"call are {sorted(streams)}"
            )
        given = [s for s in self.streams if s.name in streams]
        for s in given:
            shape, batch = streams[s.name].shape, len(streams[s.name])
            if shape[1:] != s.shape:
                raise ValueError(
                    f"stream {s.name!r} is (b, {', '.join(map(str, s.shape))}); "
                    f"got {shape}"
                )
            end = (2,) if self.intervals else ()
            leads = (s.grid[:k] for k in range(len(s.grid) + 1))
            if times[s.name].shape not in [(batch, *lead, *end) for lead in leads]:
                raise ValueError(
                    f"times of stream {s.name!r} are {(batch, *end)} where intervals="
                    f"{self.intervals}, with first axes of its grid {s.grid} behind "
                    f"the batch's or none; got {times[s.name].shape}"
                )
            whole = ((batch,), shape[:-1])
            if s.name in known and known[s.name].shape not in whole:
                raise ValueError(
                    f"known of stream {s.name!r} is {whole[0]} or {whole[1]}; "
                    f"got {known[s.name].shape}"
                )
        return given


def _seen(given, known, batch):
    """(b, n): tokens with something known in them; None where all is."""
    if not known:
        return None
    parts = []
    for s in given:
        seen = jnp.ones((batch, math.prod(s.coarse)), bool)
        if s.name in known:
            seen = patchify(known[s.name][..., None], s.patch).any(-1)
        parts.append(seen)
    return jnp.concatenate(parts, axis=1)
