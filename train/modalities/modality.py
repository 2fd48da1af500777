"""A kind of signal: how it is stored, learned from, shown and measured."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np

from train.errors import Unreadable
from train.modalities.coded import Coded
from train.modalities.draws import Draws, Version
from train.modalities.files.stored import File, stem_of
from train.modalities.record import Batch, Record
from train.modalities.settings import DataSettings
from train.modalities.shown import Axis, Panel, Units, curves, eight_bits
from vqdit.fields import Bound, Decay, Natural
from vqdit.shapes import UInt8

CURVES = 4  # channels that have a curve each
# Of a generated source, to train on; an eighth of it is to test on.
EightOrMore = Annotated[int, Bound(at_least=8)]
Fraction = Annotated[float, Bound(above=0, at_most=1)]


@dataclasses.dataclass(frozen=True)
class Modality(DataSettings, Coded):
    """The signals of an experiment: which source, and how its records become examples.

    A modality is one file: this class with a `kind`, a `shape`, and what differs of the
    methods below and of those of `Coded`. It is a value; `train.pipeline.open_examples`
    opens its source.

    name:      of the source: "folder", "webdataset", "huggingface", "npz", a generated
               one, or a prepared TFDS set.
    data_dir:  the folder, the .npz file, tar shards ("set/{0000..0146}.tar", or their
               folder), what `save_to_disk` wrote, or the TFDS data directory ("":
               TFDS's own).
    train_split, test_split: sub-folders, .npz files, words in the names of shards, or
        splits of a set (of TFDS "train[:90%]" too) that are the two parts; where those
        are missing, or both name one, holdout divides the data.
    holdout:   share kept for testing, by a hash of the file name or index; "name:0.1"
               hashes the name without folder and suffix, so that the same names are
               held out of every kind of signal; "match:REGEX" holds out those whose
               path, without suffix, has a match.
    bad_share: share of unreadable files that is skipped rather than refused.
    threads:   workers that read and decode; 0 reads in the caller's own thread.
    augment:   what training changes in an example anew every time; None for nothing.
    words:     the caption of every class, for examples that have none of their own.
    share:     of the training part that is used, the same ones each time, and all of a
               smaller share in a larger one; see `train.sources.share`. What is held
               out stays whole.

    Of the class:
    kind:       its name in a bundle's contract.
    suffixes:   of the files it reads.
    folders:    a folder of pictures counts as a file.
    divides:    one file may hold both parts, one after the other.
    feature:    of a set of TFDS or Hugging Face, such as "Image"; "": none is.
    masked:     some values may be unknown, and the batch says which.
    boxed:      a list of a folder's files may have their boxes.
    pixels:     values are 8 bits in files and in batches.
    around:     the axis that goes round, if one does.
    pictured:   an example can be shown.
    wide:       one example beside another is lost in a picture.
    normalise:  how values without a range of their own are brought into [-1, 1].
    takes:      names in `preparation`, all there may be.
    judged:     steps that a judge of labelled examples is trained for; 0: none is.
    measures:   the evaluators that a tokenizer is scored by, in
                `train.evaluation.reconstruction.kinds`; "": the mean of its own
                `measure`.
    score, unit: of `measure`, and of the bits of a file.
    sides:      the fields that say the sides of an example, in their order.
    made:       the fields that say how generated data are made, and nothing of others.
    """

    kind: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    folders: ClassVar[bool] = False
    divides: ClassVar[bool] = False
    feature: ClassVar[str] = ""
    masked: ClassVar[bool] = False
    boxed: ClassVar[bool] = False
    pixels: ClassVar[bool] = False
    around: ClassVar[int | None] = None
    pictured: ClassVar[bool] = True
    wide: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ()
    judged: ClassVar[int] = 0
    measures: ClassVar[str] = ""
    score: ClassVar[str] = "PSNR"
    unit: ClassVar[str] = "bits per value"
    sides: ClassVar[tuple[str, ...]] = ()
    made: ClassVar[tuple[str, ...]] = ()

    name: str = "folder"
    data_dir: str = ""
    _: dataclasses.KW_ONLY
    train_split: str = "train"
    test_split: str = "test"
    holdout: float | str = 0.2
    bad_share: Decay = 0.01
    threads: Natural = 4
    words: tuple[str, ...] = ()
    share: Fraction = 1.0

    called = "data"

    def __post_init__(self):
        super().__post_init__()
        self.check("name", self.name, "write folder, npz or another source")
        share = isinstance(self.holdout, str) or 0 <= self.holdout < 1
        self.check("holdout", share, "write a share in [0, 1)")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example as the tokenizer sees it, channels last: its `sides`."""
        if not self.sides:
            raise NotImplementedError
        return tuple(getattr(self, name) for name in self.sides)

    @property
    def quantities(self) -> int:
        """Of its channels those, the first, that have units of their own."""
        return 0

    @property
    def preparation(self) -> tuple[tuple[str, Any], ...]:
        """(name, value) of what changes a file's values before they are normalised.

        Goes into the tokenizer's bundle, and `train.compress` does the same to files.
        """
        return ()

    @property
    def front(self) -> Any:
        """The front end through which examples are judged and compared, or None."""
        return None

    def source(self, train: bool) -> Any:
        """A source of its own, or None for the one that `name` names."""
        return None

    def adapt(self, record: Record) -> Record:
        """A stored record as it is learned from, before it is cut; Unreadable says why
        it cannot be."""
        return record

    def load(self, path: File, share: tuple[float, float] = (0.0, 1.0)) -> Record:
        """A file as it is learned from; `share`: the part of one that is divided."""
        return self.adapt(self.read(path))

    def stem(self, file: str) -> str:
        """A file's path without its suffix, of those that are read."""
        return stem_of(file, self.suffixes)

    def signals_in(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The signals of an .npz, one a row; Unreadable says what it lacks."""
        x = arrays.get(self.kind)
        if x is None or x.ndim < 2 or not x.size:
            have = {name: list(array.shape) for name, array in arrays.items()}
            raise Unreadable(
                f"holds {have}; write np.savez(file, {self.kind}=..., label=...)"
            )
        return x

    def starts(self, record: Record) -> Sequence[int]:
        """Where the examples of a record begin along its first axis."""
        return (0,)

    def pieces(
        self, records: Sequence[Record], starts: Sequence[int], draws: Draws
    ) -> Sequence[Callable[[np.ndarray], np.ndarray]]:
        """For each record what cuts an example out of its values, and out of what else
        is shaped like them. draws: of augmentation, or the `Version` that is evaluated.
        """
        return [lambda array: array] * len(records)

    def cut(
        self, records: Sequence[Record], starts: Sequence[int], draws: Draws | None
    ) -> Batch:
        """Examples (b, *shape) in their own units, under "x", what is "known" of them,
        and as they are evaluated their "truth" where the records have one.

        draws: of augmentation; None: as they are evaluated.
        """
        middle = Version((), 0, len(records))
        pieces = self.pieces(records, starts, draws or middle)

        def stacked(arrays) -> np.ndarray:
            pairs = zip(pieces, arrays, strict=True)
            return np.stack([piece(array) for piece, array in pairs])

        batch = {"x": stacked(record.values for record in records)}
        if self.masked:
            known = stacked(record.known for record in records)
            batch["known"] = known.astype(np.float32)
        if all("boxes" in record.more for record in records):
            batch["boxes"] = np.stack([record.more["boxes"] for record in records])
        if draws is None and all("truth" in record.more for record in records):
            batch["truth"] = stacked(record.more["truth"] for record in records)
        return batch

    @property
    def drawn(self) -> bool:
        """Whether training draws anew where it cuts; else it cuts as evaluation does,
        and examples are kept."""
        own = type(self)
        return (own.cut, own.pieces) != (Modality.cut, Modality.pieces)

    @property
    def mirrors(self) -> dict[str, tuple[int, ...]]:
        """Field that mirrors half of the examples -> words of the draws that say which.

        An example has one version a combination of these, so a latent cache can hold
        all of them, as it cannot of anything else that is drawn.
        """
        words = getattr(self.augment, "mirrors", ())
        return {"augment.flip": words} if words else {}

    def augmented(self, batch: Batch, draws: Draws) -> Batch:
        """The batch, normalised, as it is trained on."""
        return batch if self.augment is None else self.augment(batch, draws)

    def findings(self, records: Iterable[Record]) -> dict[str, Any]:
        """What `train.inspect` says of the records as they were stored."""
        return {}

    def changes(self, findings: Mapping[str, Any]) -> Iterable[str]:
        """What of the findings is said when training starts, too: a line for each way
        in which values are not those that were stored."""
        return ()

    def doubts(self, records: Iterable[Record]) -> Iterable[str]:
        """What `train.inspect` says to look at, of the training part alone."""
        return ()

    @classmethod
    def panels(cls, x: np.ndarray, units: Units) -> list[Panel]:
        """A signal (*shape) as pictures with what their axes and values are: of one
        axis a curve a channel, of few channels."""
        if x.ndim != 2 or x.shape[1] > CURVES:
            return [Panel(cls.show(x[None])[0], *cls.axes(x, units))]
        found, several = [], x.shape[1] > 1
        for c in range(x.shape[1]):
            across = units.along(len(x)) if c == x.shape[1] - 1 else None
            up = Axis(*units.ends(c), units.called(c) if several else "")
            found.append(Panel(curves(x[:, c : c + 1]), across, up))
        return found

    @classmethod
    def axes(cls, x: np.ndarray, units: Units) -> tuple[Axis | None, Axis | None, str]:
        """What the sides and values of its one picture are: across, up, and a note."""
        return (units.along(len(x)) if x.ndim == 2 else None), None, ""

    @classmethod
    def slices(cls, x: np.ndarray) -> UInt8[np.ndarray, "n h w c"] | None:
        """Of a signal (*shape) of which its picture leaves out the most, several."""
        return None

    @classmethod
    def show(cls, x: np.ndarray) -> UInt8[np.ndarray, "n h w c"]:
        """Signals (n, *shape) as pictures of 1 or 3 channels: of one axis curves, of
        two as they are, of three the middle slice. Floats are clipped to [-1, 1]."""
        if x.ndim == 5:
            x = x[:, x.shape[1] // 2]
        x = np.stack(list(map(curves, x))) if x.ndim == 3 else x
        x = x if x.shape[-1] in (1, 3) else x[..., :1]  # the first stands for them
        return x if x.dtype == np.uint8 else eight_bits(np.clip(x, -1, 1))
