"""Stage two: what it opens at its start."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from train.config import StageTwo
from train.config.network import network
from train.errors import BadInput, blame, of_stream
from train.objectives.bundles import check_streams, open_bundle
from train.objectives.caches import open_caches, settled_by_cache
from train.objectives.denoising import example, objective_of
from train.objectives.transfer import OWN, Transfer, open_transfer
from train.pipeline import JointExamples
from train.pipeline.streams import check_values, settled
from train.progress import say
from train.runtime import hosts
from train.runtime.heldout import MOST
from train.runtime.sharding import by_example, replicated
from train.runtime.step import TrainState
from vqdit.diffusion import Process
from vqdit.diffusion.objectives import Denoising
from vqdit.dit import DiT
from vqdit.signal import to_signal
from vqdit.tokenizer import Value
from vqdit.trained.codec import Codec
from vqdit.trained.generator import Generator


@dataclasses.dataclass(frozen=True, eq=False)
class Streams:
    """What a run of stage two opens, once, for all who need it.

    model, processes: of `network`.
    tokenizers: stream -> Codec, or a value that is born discrete.
    source:     the data, or their latent caches.
    transfer:   what training starts from; None for nothing.
    codewords:  stream -> of its tokenizer, where its embedding starts as these.
    lost:       why a run that has begun does not find that any more.
    """

    experiment: StageTwo
    model: DiT
    processes: Mapping[str, Process]
    tokenizers: Mapping[str, Any]
    source: JointExamples
    transfer: Transfer | None = None
    codewords: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    lost: str = ""

    @property
    def codecs(self) -> dict[str, Codec]:
        return codecs_and_values(self.tokenizers)[0]

    @property
    def values(self) -> dict[str, Value]:
        return codecs_and_values(self.tokenizers)[1]

    @property
    def order(self) -> str:
        """How classes are numbered, where they once were otherwise."""
        return self.source.order

    def batches(self, position: int, rows: np.ndarray | None = None) -> Iterator[dict]:
        """These rows of training batches: of the cache, or signals for `encoder`."""
        run = self.experiment.run
        return self.source.batches(run.batch, run.seed, position, rows)

    @property
    def objective(self) -> Denoising:
        return objective_of(self.experiment, self.model, self.processes)

    def heldout(self, rows: np.ndarray | None = None) -> Iterator[dict]:
        """These rows of batches of what is not trained on: signals, for a cache is of
        the training part."""
        sources, how = self.experiment.sources, self.experiment.join
        joined = JointExamples(sources, self.values, False, how)
        return joined.in_order(self.experiment.run.batch, rows, MOST)

    def encoder(self, sharding):
        """A batch of signals, placed by the sharding -> one of streams, placed so."""
        variables = hosts.everywhere(self._variables, replicated(sharding))
        encode = lambda variables, batch: self.encoded(batch, variables)
        program = jax.jit(by_example(encode, sharding), out_shardings=sharding)
        return partial(program, variables)

    def encoded(self, batch, variables: Mapping[str, dict] | None = None):
        """A batch of signals as one of streams. variables: of the tokenizers; None for
        their own."""
        variables = variables or self._variables
        streams, known = dict(batch["streams"]), dict(batch["known"])
        for name, codec in self.codecs.items():
            x, kind = to_signal(streams[name]), self.processes[name].kind
            streams[name] = codec.apply(kind, variables[name], x)
            if name in known and known[name].ndim > 1:
                known[name] = codec.known_latents(known[name])
        return {**batch, "streams": streams, "known": known}

    @property
    def _variables(self) -> dict[str, dict]:
        return {name: codec.variables for name, codec in self.codecs.items()}

    def told(self, state: TrainState) -> str:
        """What a run says of its sequence and data as it begins."""
        tokens = {s.name: math.prod(s.coarse) for s in self.model.streams}
        parts = ", ".join(
            f"{name} {count:,}{_bits(self.tokenizers.get(name))}"
            for name, count in tokens.items()
        )
        every = np.arange(len(self.source))
        told = (
            f"{sum(tokens.values()):,} tokens an example ({parts}); "
            f"{len(every):,} examples"
        )
        # Of a join whose keys are not alike nothing else would say so.
        for name in tokens:
            if lack := (~self.source.has(every, name)).sum():
                told += f", {lack:,} without {name}"
        if len(tokens) > 1:
            told += f"; parameters: {_shares(state.params, list(tokens))}"
        return told

    def generator(self, params) -> Generator:
        """What is drawn from: the model with these parameters."""
        names, classes = self.source.class_names, self.model.classes
        untrained = [label for label in self.source.absent if label < classes]
        if classes in self.source.absent and not self.experiment.label_dropout:
            untrained.append(classes)  # "none"
        mixture = self.experiment.mixture
        out = [s.name for s in self.model.streams if mixture.leaves_out(s.name)]
        how: dict[str, Any] = {"left_out": out, "parts": mixture.parts}
        every = self.experiment.streams.items()
        how["solvers"] = {name: each.solver for name, each in every if each.solver}
        parts = (self.model, params, self.processes, self.tokenizers)
        return Generator(*parts, names, untrained if classes else (), **how)


def codecs_and_values(
    tokenizers: Mapping[str, Any],
) -> tuple[dict[str, Codec], dict[str, Value]]:
    """(those that have parameters, those that have none)."""
    codecs = {n: each for n, each in tokenizers.items() if isinstance(each, Codec)}
    return codecs, {n: each for n, each in tokenizers.items() if n not in codecs}


def _shares(params: Any, names: list[str]) -> str:
    """How many parameters streams share, and how many each has for itself."""
    counts = dict.fromkeys(("shared", *names), 0)
    pattern = re.compile(rf"(?:^|/)({'|'.join(names)})_(in|out|positions|{OWN})(?:/|$)")
    for path, leaf in flatten_dict(params, sep="/").items():
        found = pattern.search(path)
        counts[found.group(1) if found else "shared"] += leaf.size
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def open_tokenizers(experiment: StageTwo, cached: bool = False) -> dict[str, Any]:
    """The tokenizers of its streams; of what is born discrete as the training part, or
    its cache, has settled it. Raises BadInput where one is not there."""
    values = experiment.values
    found: dict[str, Codec | Value] = {}
    if cached:
        values = settled_by_cache(experiment)
    for name, stream in experiment.streams.items():
        at = f"streams.{name}.tokenizer"
        if name in values:
            with blame(at), of_stream(name, experiment.sources):
                found[name] = settled(values[name], experiment.sources[name])
        elif isinstance(stream.tokenizer, str | None):
            found[name] = open_bundle(stream.tokenizer, Codec, at)
    return found


def prepare(experiment: StageTwo, begun: int | None = None) -> Streams:
    """All that the experiment names, known to fit.

    begun: the step that a run goes on from, which has what `init` brought.
    Raises BadInput, before anything is written or compiled, when it does not.
    """
    tokenizers = open_tokenizers(experiment, experiment.cache is not None)
    model, processes = network(experiment, tokenizers)
    (codecs, values), sources = codecs_and_values(tokenizers), experiment.sources
    if experiment.cache is not None:
        source = open_caches(experiment, processes, tokenizers)
        if experiment.run.heldout_every:
            check_streams(codecs, sources, False)
    else:
        check_streams(codecs, sources, True)
        source = JointExamples(sources, values, True, experiment.join)
        _check_values(source)
    classes = model.classes
    if classes and source.classes != classes:
        raise BadInput(
            f"model.classes={classes} but the data has {source.classes} classes; "
            f"write model.classes={source.classes}"
        )
    absent = [str(label) for label in source.absent if label < classes]
    if absent:
        say(f"no training example of the classes {', '.join(absent[:10])}")
    if not classes and experiment.label_dropout not in (0, StageTwo.label_dropout):
        say(f"label_dropout={experiment.label_dropout} drops nothing: model.classes=0")
    names = tuple(source.class_names)
    transfer, lost = open_transfer(experiment.init, model, begun is not None, names)
    if transfer is not None:
        _check_transfer(transfer, model, tokenizers)
        _say_of_news(transfer, experiment)
    words = _codewords(experiment, tokenizers)
    parts = (experiment, model, processes, tokenizers, source)
    return Streams(*parts, transfer, words, lost)


def _bits(tokenizer: Codec | Value | None) -> str:
    """In words, those of an example's codes; empty for one without."""
    if tokenizer is None:
        return ""
    if isinstance(tokenizer, Codec):
        bits = tokenizer.contract.bits
    else:
        bits = math.prod(tokenizer.grid) * math.log2(tokenizer.code_count)
    return f" of {bits:,.0f} bits" if bits else ""


def _codewords(experiment: StageTwo, tokenizers) -> dict[str, np.ndarray]:
    found = {}
    for name, stream in experiment.streams.items():
        if stream.start == "codebook":
            at = f"streams.{name}.start=codebook"
            if stream.process.kind != "codes":
                raise BadInput(f"{at}: the stream is of latents; write normal")
            with blame(f"{at} (write normal)"):
                found[name] = tokenizers[name].codewords()
    return found


def _check_transfer(transfer: Transfer, model: DiT, tokenizers) -> None:
    shapes = jax.eval_shape(model.init, jax.random.key(0), *example(model, 1))
    transfer.check(dict(shapes))
    codecs = getattr(transfer.bundle, "codecs", {})  # it is a generator's
    for name, old in codecs.items():
        new = tokenizers.get(name)
        if isinstance(new, Codec) and (
            new.contract.fingerprint != old.contract.fingerprint
        ):
            say(f"init: stream {name!r} was of another tokenizer's latents or codes")


def _say_of_news(transfer: Transfer, experiment: StageTwo) -> None:
    """Of new streams that no case lacks: old ones are never drawn without them."""
    held = {stream.name for stream in transfer.bundle.module.streams}
    lacks = experiment.mixture.leaves_out
    news = [n for n in experiment.streams if n not in held and not lacks(n)]
    if news and held & experiment.streams.keys():
        names = ", ".join(news)
        say(
            f"init: {names}: new, and in every case of mixture, so that other streams "
            "are drawn beside its noise, and not as they were; write a Case with absent"
        )


def _check_values(data: JointExamples) -> None:
    """Raises BadInput where what is born discrete is not in the data."""
    for name, tokenizer in data.values.items():
        at = f"streams.{name}.tokenizer"
        part: Any = data.parts[name]  # Examples, as there are no caches
        if tokenizer.source == "label":  # says all without reading an example
            if part.classes not in (0, tokenizer.classes):
                raise BadInput(
                    f"{at}: the data has {part.classes} classes; write "
                    f"Labels({part.classes})"
                )
        elif not check_values(tokenizer, part, name):
            raise BadInput(
                f"{at}: the data has no {tokenizer.source}; leave the stream out"
            )
