"""Latent caches in the place of data, known to be of these data and tokenizers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from train.config import StageTwo
from train.config.packages import own_packages
from train.errors import BadInput, blame, of_stream
from train.modalities import Modality
from train.modalities.files.stored import from_home
from train.modalities.transforms.augment import Augment
from train.objectives.bundles import check_shape
from train.pipeline import CachedExamples, JointExamples, LatentCache, open_examples
from train.pipeline.statistics import PROBED, records_of, refuse_others
from train.progress import say
from vqdit.diffusion import Process
from vqdit.tokenizer import Value
from vqdit.trained.codec import Codec
from vqdit.trained.contract import LatentContract, refuse_mismatch
from vqdit.values import build


def augmenting(data: Modality) -> dict:
    """Fields of the data that augment it -> their values that do not."""
    plain = {"flip": (True, False), "crop": ("random", "center")}
    found = {
        name: to for name, (of, to) in plain.items() if getattr(data, name, to) == of
    }
    return found | ({"augment": None} if getattr(data, "augment", None) else {})


def drawing(data: Modality) -> dict[str, Any]:
    """Fields of the data that augment it, and how, for a cache to say what it holds."""
    return {name: getattr(data, name) for name in augmenting(data)}


def _drawn_of(cache: LatentCache) -> dict[str, Any] | None:
    """What `drawing` was, values, so that a field that came later has its default; None
    for what is none."""
    try:
        stored = cache.contract["augment"].items()
        packages = ("vqdit", "train", *own_packages())
        return {name: build(json.loads(text), packages) for name, text in stored}
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _beyond_mirrors(data: Modality) -> dict[str, Any]:
    """Fields of the data that draw what no cache holds -> their values that do not."""
    found, augment = augmenting(data), data.augment
    if isinstance(augment, Augment):
        del found["augment"]
        found |= {f"augment.{name}": to for name, to in augment.others.items()}
    found.pop("flip", None)
    return found


def refuse_moving(tokenizer: Any, data: Modality, what: str) -> None:
    """Raises BadInput for boxes of pictures that training moves, since a cache holds
    them where they are evaluated."""
    moving, augment = augmenting(data), data.augment
    if not (getattr(augment, "moves", False) or getattr(augment, "pace", 0)):
        moving.pop("augment", None)
    if getattr(tokenizer, "source", "") == "boxes" and moving:
        plain = " ".join(f"data.{field}={to}" for field, to in moving.items())
        raise BadInput(
            f"{what}: boxes move with their pictures, and a cache holds them "
            f"once: write {plain}, or leave cache out to encode on the fly"
        )


def open_caches(
    experiment: StageTwo, processes: Mapping[str, Process], tokenizers: Mapping
) -> JointExamples:
    """The cache of the one stream, or in its folder one of each.

    Raises BadInput when one is another tokenizer's or of other data, or holds what it
    must not.
    """
    sources, found = experiment.sources, {}
    # In the order of the data, whose first says what others are joined to.
    for name, data in sources.items():
        path, kind = _place(experiment, name), processes[name].kind
        with of_stream(name, sources):
            cache = _open(path, tokenizers[name], data, kind)
        found[name] = CachedExamples(cache, data, kind)
    return JointExamples(sources, {}, True, experiment.join, found)


def settled_by_cache(experiment: StageTwo) -> dict[str, Value]:
    """What is born discrete, as the part that was encoded has settled it."""
    found = experiment.values
    for name, value in found.items():
        if not value.settled:
            path = _place(experiment, name)
            found[name] = _tokenizer_of(LatentCache(path))
            if type(found[name]) is not type(value) or not found[name].settled:
                raise BadInput(f"cache: {path} is of another tokenizer; encode again")
            if other := value.contradiction(found[name]):
                field, own, theirs = other
                raise BadInput(
                    f"cache: {path} has {field}={theirs!r} and streams.{name}."
                    f"tokenizer {field}={own!r}; write the cache's, or encode again"
                )
    return found


def _tokenizer_of(cache: LatentCache) -> Any:
    """What is born discrete as it was encoded, or a contract. Fields are compared once
    they are values: one that came later has its default."""
    with blame("cache"):
        return build(cache.contract.get("tokenizer"), ("vqdit", *own_packages()))


def _place(experiment: StageTwo, name: str) -> Path:
    folder = from_home(experiment.cache or "")
    return folder if len(experiment.streams) == 1 else folder / name


def _open(path: Path, tokenizer: Any, data: Modality, field: str) -> LatentCache:
    if not isinstance(tokenizer, Codec):
        cache = LatentCache(path)
        if _tokenizer_of(cache) != tokenizer:
            raise BadInput(f"cache: {path} is of another tokenizer; encode again")
        refuse_moving(tokenizer, data, f"cache: {path}")
        _check_part(cache, path, data, field)
        return cache
    mirrors = data.mirrors
    cache = LatentCache(path, sum(mirrors.values(), ()))
    check_shape(tokenizer, data)
    drawn = bool(cache.contract.get("epochs"))
    if drawn and _drawn_of(cache) != drawing(data):
        raise BadInput(
            f"cache: {path} holds examples augmented otherwise than data says; "
            "encode again"
        )
    if not drawn and (others := _beyond_mirrors(data)):
        plain = " ".join(f"data.{field}={to}" for field, to in others.items())
        raise BadInput(
            f"cache holds examples that are mirrored at most: write {plain}, encode "
            "again with --epochs=N, or leave cache out to encode on the fly"
        )
    if not drawn and mirrors and cache.contract.get("mirrors") != list(mirrors):
        fields = " and ".join(f"data.{field}" for field in mirrors)
        plain = " ".join(f"data.{field}=False" for field in mirrors)
        raise BadInput(
            f"cache: {path} does not hold what {fields} mirrors: encode "
            f"again with it, write {plain}, or leave cache out to encode on the fly"
        )
    if data.drawn and not drawn:
        say(
            "the cache holds examples that are cut as they are evaluated; without it "
            "training cuts larger ones anywhere"
        )
    try:
        made_under = build(cache.contract["tokenizer"])
        if not isinstance(made_under, LatentContract):
            raise ValueError("it states no latent contract")
        refuse_mismatch(tokenizer.contract, made_under, f"the cache {path}")
    except (KeyError, ValueError) as error:
        raise BadInput(f"cache: {error}") from error
    _check_part(cache, path, data, field)
    return cache


def _check_part(cache: LatentCache, path: Path, data: Modality, field: str) -> None:
    """Raises BadInput for a cache of another part, of other data than there is now, and
    without the field."""
    if cache.contract.get("split") != "train":
        raise BadInput(
            f"cache: {path} is not of the training split; encode it with --split=train"
        )
    if field not in cache.fields:
        raise BadInput(
            f"cache: {path} holds {sorted(cache.fields)}, its stream "
            f"needs {field}; encode again"
        )
    # Where there are no data, as on a machine that was given the cache alone, it is
    # believed.
    what = f"cache: {path}"
    if "data" not in cache.contract:
        say(
            f"{what} does not say of which data it is; encode again to have it compared"
        )
        return
    try:
        records_of(data, True)
    except BadInput as error:
        say(f"{what} is not compared with the data, which cannot be read: {error}")
        return
    refuse_others(cache.contract["data"], data, what)
    if "beside" in cache.contract and cache.contract["beside"] != caption_sums(data):
        raise BadInput(
            f"{what}: made of other captions or boxes than the data has now; give them "
            "back, or encode again"
        )


def caption_sums(data: Modality) -> list[int]:
    """What tells captions, words of classes and boxes from others, of some examples of
    the training part."""
    examples = open_examples(data, True)
    batch = examples.take(examples.spaced(PROBED))
    found = np.asarray(batch.get("boxes", np.zeros(len(batch["x"]))))
    boxes: Any = np.round(found, 3).tolist()
    captions = batch.get("caption", [None] * len(boxes))
    pairs = zip(captions, boxes, strict=True)
    return [crc32(repr(pair).encode()) for pair in pairs]
