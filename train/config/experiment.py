"""An experiment: everything that decides what a run computes, as one value."""

import dataclasses
import math
from typing import Literal

import flax.linen as nn

from train.config.evaluations import Reconstructions, Samples
from train.config.optimizers import AdamW, Optimizer
from train.config.weights import Weights
from train.errors import BadInput
from train.modalities import Images, Modality
from vqdit.diffusion import (
    Gaussian,
    Mixture,
    Process,
    Solver,
    TimeLaw,
    Uniform,
)
from vqdit.dit import DiT
from vqdit.fields import Count, Natural, NonNegative, Seed, Share
from vqdit.losses.adversarial import Game
from vqdit.tokenizer import Tokenizer, Value


@dataclasses.dataclass(frozen=True)
class Mesh:
    """How many devices along each axis; one may be -1, what is left of the devices.

    data:   between which a batch is divided.
    fsdp:   between which a batch, and every parameter and its averages, are divided.
    tensor: between which the products of a layer are divided.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def sizes(self, devices: int) -> tuple[int, int, int]:
        """(data, fsdp, tensor) with a -1 filled in. Raises BadInput if it cannot be."""
        sizes = {"data": self.data, "fsdp": self.fsdp, "tensor": self.tensor}
        for name, size in sizes.items():
            if size < 1 and size != -1:
                raise BadInput(
                    f"mesh.{name}={size}: write 1 or more, or -1 for the rest"
                )
        rest = [name for name, size in sizes.items() if size == -1]
        if len(rest) > 1:
            raise BadInput(
                f"mesh.{rest[1]}=-1: only one axis can be the rest; write a size"
            )
        known = math.prod(size for size in sizes.values() if size != -1)
        if devices % known or (not rest and known != devices):
            spelled = " x ".join(f"{name} {size}" for name, size in sizes.items())
            advice = (
                "write mesh.data=-1 for what is left"
                if devices % (known // abs(self.data)) == 0
                else f"write sizes that divide {devices}"
            )
            raise BadInput(f"mesh: {spelled} does not make {devices} devices; {advice}")
        rest_of = lambda size: devices // known if size == -1 else size
        return rest_of(self.data), rest_of(self.fsdp), rest_of(self.tensor)


@dataclasses.dataclass(frozen=True)
class Run:
    """How long, on how much, and what is written down on the way.

    steps, batch: updates in all, and examples in each over all devices.
    seed:         of the first weights, the order of examples, and all that is drawn.
    log_every:    steps between lines of figures.
    save_every:   steps between checkpoints; the last step has one, too.
    keep:         checkpoints that stay; older ones are deleted.
    sample_every: steps between pictures; 0 draws them at the end only.
    heldout_every: steps between losses on held-out data, logged as heldout_loss; 0 for
        none.
    evaluate:     what is scored besides, of the averaged weights: Reconstructions(500)
        of stage one, Samples(5000) of stage two, each so many steps, and logged as
        evaluation_psnr_db, evaluation_tokenizer_distance; None for none.
    best:         figure of these, such as "heldout_loss", whose best bundle is kept in
        best/, the smallest, or the largest of "-evaluation_psnr_db"; "" for none.
    wandb:        Weights & Biases project to report to as well; "" for none.
    """

    steps: Count
    batch: Count
    seed: Seed = 0
    log_every: Count = 50
    save_every: Count = 500
    keep: Count = 3
    sample_every: Natural = 0
    wandb: str = ""
    heldout_every: Natural = 0
    best: str = ""
    evaluate: Reconstructions | Samples | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What both stages have.

    name: labels a run and changes nothing in it.
    """

    name: str
    data: Modality | dict[str, Modality] = Images()
    optimizer: Optimizer = Optimizer()
    run: Run
    mesh: Mesh = Mesh()

    @property
    def dtype(self) -> str:
        """In which the network computes."""
        raise NotImplementedError

    @property
    def one_data(self) -> Modality:
        """The data, for a program that takes one; BadInput where each stream has its
        own."""
        if isinstance(self.data, Modality):
            return self.data
        raise BadInput(
            f"data is one a stream, of {', '.join(self.data)}: write the one that is "
            "meant, --config.data='Images(...)'"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversarial:
    """A discriminator, and how the tokenizer plays against it.

    start, ramp: step at which the discriminator begins to learn; within `ramp` more the
        generator's terms reach their full weight.
    loss:     the game: "hinge" or "non_saturating".
    weight:   of the generator's loss. With `adaptive`, a share of the reconstruction's
        pull on the last layer of the decoder, the parameter at the path `last`.
    adaptive: whether `weight` is such a share, or a factor.
    last:     path of a parameter, such as "decoder/conv_out/kernel".
    features: weight of feature matching.
    lecam:    weight of the LeCam regularisation in the discriminator's loss.
    """

    discriminator: nn.Module
    start: Natural = 0
    ramp: Natural = 0
    loss: Game = "hinge"
    weight: NonNegative = 0.8
    adaptive: bool = True
    last: str = "decoder/conv_out/kernel"
    features: NonNegative = 0.0
    lecam: NonNegative = 0.0
    optimizer: AdamW = AdamW()


@dataclasses.dataclass(frozen=True)
class KMeansInit:
    """Start the codebook from data: a plain autoencoder until `step`, then k-means.

    For a quantizer with start="kmeans"; any other is ready at once and needs none.
    step: of training, at which the codebook is set.
    samples: encoder outputs that are clustered, in `iterations` rounds.
    iterations: rounds of k-means.
    """

    step: Count = 200
    samples: Count = 4096
    iterations: Count = 25


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageOne(Experiment):
    """A tokenizer trained on signals, against a discriminator if there is one.

    adversarial: the discriminator and how it is played against; None for none.
    kmeans: how a codebook that starts by k-means does; None where none does.
    init: workdir or bundle of a tokenizer whose weights and codes training starts from;
        what it lacks starts new. One of pictures starts one of clips, too.
    """

    data: Modality = Images()
    model: Tokenizer
    init: str | None = None
    losses: Weights = Weights()
    adversarial: Adversarial | None = None
    kmeans: KMeansInit | None = None

    @property
    def dtype(self) -> str:
        return self.model.encoder.dtype


@dataclasses.dataclass(frozen=True)
class Stream:
    """One stream of stage two: what its tokens are, and how they are learnt.

    process:   how it is noised; it says whether the stream is of latents or of codes.
    tokenizer: workdir or bundle of stage one; or a value, of what is born discrete:
        Bytes(32) or BPE(...) of captions, Labels(10) of labels, Table() of rows,
        Boxes(...) of boxes.
    times:     at which it is noised in training.
    patch:     side of the cube of latents that makes a token.
    weight:    factor of its loss.
    start:     what the embedding of codes begins as: "normal" draws, or "codebook", a
        random projection of the tokenizer's codewords, or of the order of bins of rows
        and boxes, so that codes which mean nearly the same are near from the first:
        that spares steps where examples are few. What `init` brings goes before it.
    solver:    by which it is drawn where nothing else is written, in the bundle, too;
        None for its process's own step.
    shape, codes: of one example, (*grid, channels) of latents, or (*grid, books) and
        how many codes a book has. The tokenizer says both; written, they say what it
        has to be, and stand in for it where no data are read (train.bench).
    """

    process: Process = Gaussian()
    tokenizer: str | Value | None = None
    times: TimeLaw = Uniform()
    patch: Count = 1
    weight: NonNegative = 1.0
    start: Literal["normal", "codebook"] = "normal"
    solver: Solver | None = None
    shape: tuple[int, ...] = ()
    codes: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageTwo(Experiment):
    """A diffusion transformer trained on the latents or codes of its streams.

    data:    of all streams; or stream -> its own.
    join:    what of several data is of one example: "index" row i of each; "key" those
        of equal file names or .npz keys, where streams may be missing; "class" any of
        the class of an example of the first.
    model:   without its streams, which follow from these.
    streams: name -> Stream, in their order in the sequence.
    init:    workdir or bundle of a generator whose weights training starts from; what
        it lacks, a stream or a table of more or fewer classes, starts new.
    cache:   folder of a latent cache of the one stream, or of one of each by its name
        (train.encode); None encodes on the fly.
    label_dropout: share of labels replaced by the null class, for guidance.
    mixture: which streams, or parts of them, training shows as given or leaves out.
    bars:    what is to be reached, such as "audio_to_word accuracy >= 0.95", of figures
        of `train.evaluate`, which says whether it is; see `train.config.bars`.
    balance: whether losses are divided by what a network pays that answers 0, so that
        all begin at 1 whatever their units, and weights are shares.
    """

    data: Modality | dict[str, Modality] = Images()
    join: Literal["index", "key", "class"] = "index"
    model: DiT
    streams: dict[str, Stream]
    init: str | None = None
    cache: str | None = None
    label_dropout: Share = 0.1
    mixture: Mixture = Mixture()
    balance: bool = False
    bars: tuple[str, ...] = ()

    @property
    def dtype(self) -> str:
        return self.model.dtype

    @property
    def sources(self) -> dict[str, Modality]:
        """Stream -> its data."""
        if isinstance(self.data, Modality):
            return dict.fromkeys(self.streams, self.data)
        return self.data

    @property
    def values(self) -> dict[str, Value]:
        """Stream -> its tokenizer, of the streams that are born discrete."""
        found = {name: stream.tokenizer for name, stream in self.streams.items()}
        return {n: t for n, t in found.items() if not isinstance(t, str | None)}

    @staticmethod
    def upgraded(fields: dict) -> dict:
        """Fields as a file has them; 0.1.0 told of the streams in four places."""
        if "processes" not in fields:
            return fields
        fields = dict(fields)
        parts = {
            name: fields.pop(name, {"dict": {}})["dict"]
            for name in ("processes", "times", "tokenizers")
        }
        model = fields["model"] = {**fields["model"]}
        model["fields"] = {**model["fields"]}
        streams = {
            stream["fields"]["name"]: _stream(stream["fields"], parts)
            for stream in model["fields"].pop("streams")
        }
        return fields | {"streams": {"dict": streams}}


def _stream(old: dict, parts: dict[str, dict]) -> dict:
    """A Stream in JSON, of a stream of a DiT and what else is said of its name."""
    name, process = old["name"], parts["processes"][old["name"]]
    new = {"process": process, "times": parts["times"][name]}
    if name in parts["tokenizers"]:
        new["tokenizer"] = parts["tokenizers"][name]
    if "vocab" in old:
        new |= {"shape": [*old["grid"], old.get("books", 1)], "codes": old["vocab"]}
        if process["fields"].get("vocab") == old["vocab"]:  # the stream says it
            own = {**process["fields"], "vocab": None}
            new["process"] = {**process, "fields": own}
    else:
        new |= {"shape": [*old["grid"], old["channels"]], "patch": old.get("patch", 1)}
    return {"class": "train.Stream", "fields": new}
