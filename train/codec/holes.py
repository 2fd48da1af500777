"""Holes in what is given: which places of an example are drawn anew."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from train.codec.examples import signals_of
from train.errors import BadInput
from train.modalities.kinds import of_contract
from train.progress import say
from vqdit.nn.patching import on_grid
from vqdit.tokenizer.text import Text
from vqdit.trained.codec import Codec
from vqdit.trained.generator import Generator


def with_holes(
    generator: Generator, given: Mapping[str, Any], words: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(given, with codes in the place of texts; stream -> what stays of it, bool
    (n, *grid), of as many examples as are given).

    words: stream, one that is given -> where the hole is. Of pictures and clips a box
        x0,y0,x1,y1 in shares of the sides, or a picture, brought to the size as a given
        one is, that is white where the hole is; of sounds and series start,end in
        seconds, or in samples where they have no rate; of a text the character that
        stands for one code which is not known.
    A place stays where nothing of it is in the hole. Raises BadInput for a hole that
    cannot be, holds nothing, or leaves nothing.
    """
    given, stays = dict(given), {}
    for name, word in words.items():
        at, codec = f"--hole.{name}={word}", generator.codecs.get(name)
        tokenizer = generator.values.get(name)
        if isinstance(tokenizer, Text):
            given[name], kept = _blanks(tokenizer, given[name], word, at)
        elif codec is not None:
            hole = _hole(codec, word, at)
            found = codec.known_latents(hole[None, ..., None])
            if found.ndim == 1:
                raise BadInput(
                    f"{at}: a latent of its tokenizer stands for no part of a signal; "
                    f"write --shown.{name}, or drop it"
                )
            kept = ~np.repeat(np.asarray(found), len(given[name]), axis=0)
        else:
            raise BadInput(
                f"{at}: holes are of signals and texts; of rows leave a column out"
            )
        if kept.all() or not kept.any():
            every = "nothing" if kept.all() else "all"
            raise BadInput(f"{at}: {every} of what is given is in it")
        latents = generator.processes[name].kind == "latents"  # masks are such parts
        if latents and name not in generator.parts:
            say(
                f"{name}: no parts of it were given in training (`Mixture`, parts); "
                "what is drawn around some is no better than that lets it be"
            )
        stays[name] = kept
    return given, stays


def pasted(
    codec: Codec, stream: Any, given: np.ndarray, drawn: np.ndarray, stays: np.ndarray
) -> np.ndarray:
    """Samples in which all that stayed is as it was given, not as decoded.

    stream: the generator's. given, drawn: as `restored` has them. stays: as a sampler's
        `known`. Where latents stand for no blocks of the signal, such as those of a
        spectrogram, or codes for no latents, the samples as they are.
    """
    there = codec.known_signal(on_grid(jnp.asarray(stays), stream.grid))
    return drawn if there is None else np.where(there[..., None], given, drawn)


def _hole(codec, word, at) -> np.ndarray:
    """Bool (*sides), true in the hole."""
    contract = codec.contract
    pixels, sides = of_contract(contract).pixels, contract.shape[:-1]
    if not pixels and len(sides) > 1:
        raise BadInput(f"{at}: holes are of pictures, clips, sounds, series and texts")
    ends = [_number(part) for part in word.split(",")]
    if pixels and None in ends and Path(word).suffix:
        return np.broadcast_to(_white(codec, word, at), sides)
    form = ("x0", "y0", "x1", "y1") if pixels else ("start", "end")
    if len(ends) != len(form) or None in ends:
        more = ", or a picture that is white there" if pixels else ""
        raise BadInput(f"{at}: write {','.join(form)}{more}")
    scale = sides[-2:] if pixels else [contract.rate or 1.0]
    low, high = (ends[1::-1], ends[:1:-1]) if pixels else (ends[:1], ends[1:])
    spans: list[slice] = []
    for a, b, one, side in zip(low, high, scale, sides[-len(low) :], strict=True):
        if not 0 <= a < b <= side / one:
            raise BadInput(f"{at}: write from 0 to {side / one:g}, the lower first")
        # All that the span touches, by more than what floats lose.
        spans.append(slice(math.floor(a * one + 1e-6), math.ceil(b * one - 1e-6)))
    hole = np.zeros(sides, bool)
    every = [slice(None)] * (len(sides) - len(spans))
    hole[tuple(every + spans)] = True
    return hole


def _white(codec, word, at) -> np.ndarray:
    """Bool (h, w), where a picture is white that is brought to the size."""
    shape = (*codec.contract.shape[-3:-1], 1)
    contract = dataclasses.replace(
        codec.contract, kind="image", shape=shape, offset=(), scale=()
    )
    try:
        masks = signals_of(dataclasses.replace(codec, contract=contract), word)
    except BadInput as error:
        raise BadInput(f"{at.partition('=')[0]}: {error}") from error
    if len(masks) > 1:
        raise BadInput(f"{at}: write one picture, white where the hole is")
    return masks[0].mean(-1) > 0


def _number(word):
    try:
        return float(word)
    except ValueError:
        return None


def _blanks(tokenizer, texts, blank, at):
    """Texts as codes (n, length, 1), and which of these are known."""
    if len(blank) != 1:
        raise BadInput(f"{at}: write one character, which stands for a code")
    codes = np.full((len(texts), tokenizer.length), tokenizer.padding, np.int32)
    known = np.ones(codes.shape, bool)
    for i, text in enumerate(texts):
        found, gaps = [], []
        for part in text.split(blank):
            found += [tokenizer.padding] * bool(gaps) + tokenizer.split(part)
            gaps.append(len(found))
        if len(found) > tokenizer.length:
            raise BadInput(
                f"{at}: the text takes {len(found)} codes, and the stream has room for "
                f"{tokenizer.length}; write a shorter one"
            )
        codes[i, : len(found)] = found
        known[i, gaps[:-1]] = False
    return codes[..., None], known
