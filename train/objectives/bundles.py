"""Opens what training left behind, and refuses the wrong kind of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from train.config import Experiment, StageTwo
from train.config.packages import foreign, naming, own_packages
from train.errors import BadInput, Unreadable, of_stream, one_line
from train.modalities import Modality
from train.modalities.files.stored import from_home
from train.modalities.files.writing import becoming
from train.pipeline import Examples, open_examples
from train.pipeline.statistics import other_records
from train.progress import say
from train.runtime import hosts
from vqdit.fields import told
from vqdit.sealed import SEAL
from vqdit.trained.bundle import load, place, read_json
from vqdit.trained.codec import Codec
from vqdit.trained.generator import Generator
from vqdit.trained.judge import Judge, picture_shape
from vqdit.trained.saving import save_by

T = TypeVar("T", bound=Codec | Generator | Judge)
WORDS = {Codec: "a tokenizer", Generator: "a generator", Judge: "a classifier"}


def open_bundle(
    path: str | Path | None, kind: type[T] | tuple[type[T], ...], at: str
) -> T:
    """What is in a workdir or bundle folder, of this kind or one of these.

    Raises BadInput, naming the field or flag `at` that gave the path.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    wanted = " or ".join(WORDS[each] for each in kinds)
    if not path:
        raise BadInput(f"write {at}=DIR, the workdir or bundle of {wanted}")
    try:
        found = load(from_home(path), own_packages())
    except (ValueError, OSError) as error:
        if of := foreign(error):
            raise BadInput(f"{at}: {path}: {of}{naming(of)}") from error
        raise BadInput(f"{at}: {error}") from error
    if not isinstance(found, kinds):
        raise BadInput(
            f"{at}: {path} is {WORDS[type(found)]}; write the folder of {wanted}"
        )
    return found


def check_experiment(
    thing: Codec | Generator | Judge, experiment: Experiment, path: str | Path
) -> None:
    """Raises BadInput where the experiment has not the streams of the generator that is
    at the path."""
    if not isinstance(thing, Generator):
        return
    if not isinstance(experiment, StageTwo):
        raise BadInput(f"{path}: config.json is not a generator's")
    for name in thing.streams:
        if name not in experiment.sources:
            known = ", ".join(experiment.sources)
            raise BadInput(
                f"{path}: the generator has a stream {name!r}, the experiment has "
                f"{known}; write the config of its own run"
            )


def bundle_folder(path: str | Path) -> Path:
    """The folder that `vqdit.load` reads: of a workdir, its bundle."""
    path = from_home(path)
    return path / "bundle" if (path / "bundle").is_dir() else path


def seal_of(path: str | Path) -> str | None:
    """The seal of a workdir's bundle, which other weights do not have; one of 0.1.0 has
    none."""
    return read_json(bundle_folder(path) / "config.json").get(SEAL)


def keep(folder: Path, thing: T) -> T:
    """Writes a bundle, once for all processes, and returns what is in it.

    Raises BadInput where something else is in its place or it cannot be written, and of
    weights that are not finite.
    """
    with hosts.together():
        if hosts.first():
            try:
                where = place(folder)
                with becoming(where, folder=True) as fresh:
                    save_by(fresh, where, thing)
            except ValueError as error:
                raise BadInput(one_line(error)) from error
            except OSError as error:  # of a full disk it names no file
                line = f"{folder} cannot be written: {one_line(error)}"
                raise BadInput(line) from error
    return thing


def open_judge(path: str, data: Modality, classes: int, at: str = "--judge") -> Judge:
    """A saved judge of signals like these; `train.classifier` saves one.

    Raises BadInput where it judges others: pictures of another size, another number of
    classes, clips of another length or rate, other data or another held-out part, of
    which it may have seen what is held out here. One of before that does not say which
    signals were kept from it is believed, and that is said.
    """
    judge = open_bundle(path, Judge, at)
    shape, other = picture_shape(data.shape), None
    if (data.front is None) != (judge.front is None):
        other = f"{'clips' if judge.front else 'images'}, the data is {data.kind}"
    elif judge.front is not None:
        frames = -(-data.shape[0] // judge.front.hop)
        shape = (frames, judge.front.bands, 1)
        if judge.front.rate != data.rate:
            other = f"clips of rate {judge.front.rate}, the data's is {data.rate}"
    if not other and judge.shape != shape:
        other = f"pictures {judge.shape}, the data's are {shape}"
    if not other and judge.network.classes != classes:
        other = f"{judge.network.classes} classes, the data has {classes}"
    if not other and judge.protocol.get("data") != source(data):
        trained = told(str(judge.protocol.get("data", "data that it does not name")))
        other = f"by {trained}, the data is {source(data)}"
    if not other and judge.held_out is None:
        say(
            f"{at}: {path} does not say which records were held out of its training, "
            "and may have learned those that are held out here; train it anew to have "
            "them compared"
        )
    elif not other and judge.held_out is not None:
        try:
            found = other_records(judge.held_out, data, train=False)
        except Unreadable as error:
            raise BadInput(f"{at}: {path}: held_out: {error}; train it anew") from error
        other = found and f"by a held-out part of {found} there"
    if other:
        raise BadInput(
            f"{at}: {path} judges {other}; train one with python -m train.classifier"
        )
    return judge


def source(data: Modality) -> dict[str, str]:
    """What says which signals are trained on, and which are held out."""
    names = ("name", "train_split", "test_split", "holdout")
    return {name: str(getattr(data, name)) for name in names if hasattr(data, name)}


def examples_for(codec: Codec, data: Modality, train: bool) -> Examples:
    """One part of the data, known to be what the tokenizer was trained on.

    Raises BadInput when its kind or shape is another, when it is normalised by other
    statistics, or prepared otherwise: statistics are fitted on the training part, and a
    part that has changed since would put every value on another scale.
    """
    check_shape(codec, data)
    want, examples = codec.contract, open_examples(data, train)
    for name in ("offset", "scale"):
        mine, theirs = getattr(want, name), getattr(examples, name)
        if len(mine) != len(theirs) or not np.allclose(mine, theirs, rtol=1e-4):
            raise BadInput(
                f"data: its normalisation has {name} {_few(theirs)}, the tokenizer's "
                f"training part had {_few(mine)}; write the data it was trained on. "
                "Other files, such as anomalies, go into a folder beside those, and "
                "data.holdout='match:REGEX' holds out the same and them"
            )
    theirs = dict(data.preparation)
    for name, mine in want.preparation:
        if theirs.get(name) != mine:
            raise BadInput(
                f"data: it is prepared with {name} {theirs.get(name)}, the tokenizer's "
                f"training part was with {mine}; write the data it was trained on"
            )
    return examples


def check_data(thing: Codec | Generator, experiment: Experiment) -> None:
    """Raises BadInput where the held-out data are not what the tokenizer, or one of the
    generator's, was trained on; see `examples_for`."""
    if isinstance(thing, Codec):
        examples_for(thing, experiment.one_data, train=False)
        return
    assert isinstance(experiment, StageTwo)  # as `check_experiment` has seen
    check_streams(thing.codecs, experiment.sources, train=False)


def check_streams(
    codecs: Mapping[str, Codec], sources: Mapping[str, Modality], train: bool
) -> None:
    """Raises BadInput, which names the stream, where a part of its data is not what its
    tokenizer was trained on; see `examples_for`."""
    for name, codec in codecs.items():
        with of_stream(name, sources):
            examples_for(codec, sources[name], train)


def check_shape(codec: Codec, data: Modality) -> None:
    """Raises BadInput where the data gives what the tokenizer does not take."""
    want, have = codec.contract, (data.kind, tuple(data.shape))
    if (want.kind, want.shape) != have:
        raise BadInput(
            f"data: the tokenizer takes {want.kind} {want.shape}, the data gives "
            f"{data.kind} {data.shape}; write data of its kind and shape"
        )
    # 0 is "as stored", and of bundles older than rates.
    if want.rate and data.rate and want.rate != data.rate:
        raise BadInput(
            f"data.rate={data.rate:g}: the tokenizer takes {want.rate:g} a second; "
            f"write data.rate={want.rate:g}"
        )


def _few(values) -> str:
    return "(" + ", ".join(f"{v:.4g}" for v in values) + ")"
