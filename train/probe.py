"""What can be read off a trained model's features, layer by layer and time by time.

python -m train.probe --workdir=runs/tok --pool=flat
python -m train.probe --workdir=runs/dit --times='(0.0, 0.2, 0.5, 0.8)'
python -m train.probe --workdir=runs/speech --target=speaker

Features of training examples go into logistic regression, whose regularisation a part
of them chooses, and into k nearest neighbours; both are scored on the held-out part,
beside the same of as many principal components of the raw signal. A tokenizer has its
latents, codes and the layers of its encoder; a generator the tokens of a stream behind
each block, of an example that is noised to a time and of which it is told nothing else.

--target is the class of the examples (label), their speaker, of recordings named like
7_jackson_32, name:REGEX, what its group matches in an example's name, or any other word
or whole number that examples carry, by its name. Held-out examples of a class that no
training example has are left out.

Writes WORKDIR/probe.json, the table, and WORKDIR/probe.png, its picture.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import jax
import numpy as np

from train.config import Experiment, StageTwo
from train.config.command import OF_RUN, parse
from train.config.outputs import check_free, out_file
from train.errors import BadInput, blame, run
from train.evaluation.evaluator import signal
from train.evaluation.probing import Probed, components, probed
from train.evaluation.targets import HELD, TRAIN, Labelled, labelled_parts, pattern_of
from train.modalities import Batch, Modality
from train.modalities.files.writing import write, write_bytes
from train.objectives.bundles import check_experiment, examples_for, open_bundle
from train.pipeline.streams import codes_of, seen_of
from train.progress import progress, say
from train.report.pictures import line_plot
from train.runtime import hosts
from train.runtime.keys import key_of
from vqdit.fields import FILLED, Count, Finite, Names, Seed
from vqdit.shapes import Float
from vqdit.trained.codec import Codec
from vqdit.trained.extractor import Extractor
from vqdit.trained.generator import Generator

TIMES = (0.0, 0.25, 0.5, 0.75)
BYTES = 2**30  # of features that are held at once
FLAGS = OF_RUN | {
    "layers": (Names, "by name; else all that are listed for a wrong one"),
    "times": (
        Annotated[tuple[Finite, ...], FILLED],
        f"of a generator, 0 data to 1 noise {TIMES}",
    ),
    "pool": (Literal["mean", "flat"], "of the tokens: their mean, or all in a row"),
    "of": (str, "of a generator: the stream whose tokens they are"),
    "target": (str, "label, speaker, name:REGEX, or what examples carry (label)"),
    "train_most": (Count, f"training examples, evenly spaced ({TRAIN})"),
    "most": (Count, f"held-out examples, evenly spaced ({HELD})"),
    "seed": (Seed, "of a generator's noise (0)"),
    "out": (str, "the table, a .json (probe.json in the workdir)"),
}


def main(argv=None):
    hosts.alone()
    command = parse(argv, Experiment, FLAGS, needed=["workdir"], measures=True)
    flags, experiment = command.flags, command.experiment
    pattern_of(flags.get("target", "label"))
    out = out_file(flags.get("out", command.workdir / "probe.json"), ".json")
    check_free(out.parent, [out.with_suffix(".png").name])
    thing = open_bundle(command.workdir, (Codec, Generator), "--workdir")
    check_experiment(thing, experiment, command.workdir)
    asked = opened(thing, experiment, flags)
    names = {"target": "target", "train_most": "train_most", "most": "held_most"}
    chosen = {names[n]: flags[n] for n in names if n in flags}
    train, held, found = labelled_parts(asked.data, **chosen)
    key = key_of(flags.get("seed", 0))
    figures = {"experiment": experiment.name, "pool": asked.extractor.pool} | found
    with blame():  # what the model cannot be asked
        rows = table(asked, train, held, key)
    write(out, figures | {"rows": rows})
    write_bytes(out.with_suffix(".png"), drawn(rows, figures["chance"]))
    print(text(rows, figures))
    say(f"the table is in {out}, its picture beside it")


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """What is probed.

    extractor: of all layers. times: (None,) of a tokenizer. shown: a batch as the
    extractor takes it. signal: a batch as rows of numbers, which features compete with.
    """

    data: Modality
    extractor: Extractor
    times: tuple[float | None, ...]
    shown: Callable[[Batch], Any]
    signal: Callable[[Batch], Float[np.ndarray, "b d"]]

    def dim(self, layer: str) -> int:
        """Features of an example."""
        tokens, channels = self.extractor.known[layer]
        return tokens * channels if self.extractor.pool == "flat" else channels


def opened(
    thing: Codec | Generator, experiment: Experiment, flags: Mapping[str, Any]
) -> Asked:
    """Raises BadInput for layers, times and streams that are none."""
    pool, layers = flags.get("pool", "mean"), flags.get("layers", thing.layers)
    extractor: Any  # of either
    with blame():
        if isinstance(thing, Generator):
            extractor = thing.extractor(layers, 0.0, pool, flags.get("of"))
        else:
            extractor = thing.extractor(layers, pool)
    if isinstance(thing, Codec):
        for name in ("times", "of", "seed"):
            if name in flags:
                raise BadInput(f"--{name} is of a generator; drop it")
        examples_for(thing, experiment.one_data, train=False)
        whole = lambda batch: _signal(thing, batch)
        flat = lambda batch: whole(batch).reshape(len(batch["x"]), -1)
        return Asked(experiment.one_data, extractor, (None,), whole, flat)
    assert isinstance(experiment, StageTwo)  # as `check_experiment` has seen
    times, of = flags.get("times", TIMES), extractor.of
    for t in times:
        if not 0 <= t <= 1:
            raise BadInput(f"--times: {t:g} is none; write 0 (data) to 1 (noise)")
    data, codec = experiment.sources[of], thing.codecs.get(of)
    value = thing.values.get(of)
    if codec is not None:
        examples_for(codec, data, train=False)

    def shown(batch: Batch) -> dict[str, Any]:
        if value is None:
            return {of: _signal(codec, batch)}
        return {of: seen_of(value, batch)}

    def numbers(batch: Batch) -> np.ndarray:
        if value is None:
            x = _signal(codec, batch)
        else:
            codes, _ = codes_of(value, batch, of)
            x = codes[..., None] == np.arange(value.code_count)
        return x.reshape(len(x), -1).astype(np.float32)

    return Asked(data, extractor, tuple(times), shown, numbers)


def _signal(codec: Codec | None, batch: Batch) -> np.ndarray:
    x = batch["x"]
    return x if codec is None else np.asarray(signal(codec, x))


def table(
    asked: Asked, train: Labelled, held: Labelled, key: jax.Array
) -> list[dict[str, Any]]:
    """A row a time and layer: the accuracies of its features, and of as many principal
    components of the signal."""
    layers, parts = asked.extractor.layers, (train, held)
    rivals = _rivals(asked, parts, max(map(asked.dim, layers)))
    compared: dict[int, Probed] = {}
    rows = []
    for t in asked.times:
        for some in groups(asked, layers, len(train.rows) + len(held.rows)):
            extract = dataclasses.replace(asked.extractor, layers=some)
            doing = "encoding" if t is None else f"features at {t:g}"
            x = [_features(asked, extract, part, t, key, doing) for part in parts]
            for layer in progress(some, "probing", unit="layer"):
                a, b = (of.pop(layer) for of in x)
                found = probed(a, train.classes, b, held.classes)
                count = min(found.dim, rivals[0].shape[1])
                if count not in compared:
                    a, b = (of[:, :count] for of in rivals)
                    compared[count] = probed(a, train.classes, b, held.classes)
                pca = dataclasses.asdict(compared[count])
                rows.append(
                    {"layer": layer, "time": t}
                    | dataclasses.asdict(found)
                    | {f"pca_{name}": value for name, value in pca.items()}
                )
    return rows


def groups(
    asked: Asked, layers: Sequence[str], examples: int
) -> Iterator[tuple[str, ...]]:
    """Layers whose features are held together."""
    some: list[str] = []
    for layer in layers:
        size = 4 * examples * sum(map(asked.dim, [*some, layer]))
        if some and size > BYTES:
            yield tuple(some)
            some = []
        some.append(layer)
    yield tuple(some)


def _features(asked, extract, part, t, key, doing) -> dict[str, np.ndarray]:
    if t is None:
        return part.gathered(lambda batch: extract(asked.shown(batch)), doing)
    own = jax.random.fold_in(key, part.train)
    ask = lambda batch: extract(asked.shown(batch), own, batch["index"], time=t)
    return part.gathered(ask, doing)


def _rivals(asked, parts, most) -> list[np.ndarray]:
    """Principal components of the signals of both parts."""
    train, _ = parts
    whole = lambda batch: {"x": asked.signal(batch)}

    def some(few: slice) -> np.ndarray:
        rows, classes = train.rows[few], train.classes[few]
        part = dataclasses.replace(train, rows=rows, classes=classes)
        return part.gathered(whole, "reading signals")["x"]

    # Codes have columns of their own, many more than a text has letters.
    size = some(slice(1)).nbytes * len(train.rows)
    project = components(some(slice(None, None, max(1, -(-size // BYTES)))), most)
    low = lambda batch: {"x": project(asked.signal(batch))}
    return [part.gathered(low, "components")["x"] for part in parts]


def text(rows: Sequence[dict], figures: Mapping[str, Any]) -> str:
    """The table, for a terminal."""
    train, held = figures["examples"]
    lines = [
        f"{figures['target']}, {len(figures['classes'])} classes: {train} training and "
        f"{held} held-out examples, {figures['chance']:.1%} by the commonest class; "
        f"standard error at most {0.5 / held**0.5:.1%}"
    ]
    if figures["left_out"]:
        lines.append(f"{figures['left_out']} of no training class are left out")
    wide = max(len("layer"), *(len(row["layer"]) for row in rows))
    titles = ("time", "dims", "linear", "pca", "nearest", "pca")
    lines.append(" ".join([f"{'layer':{wide}}", *(f"{each:>7}" for each in titles)]))
    names = ("linear", "pca_linear", "neighbours", "pca_neighbours")
    for row in rows:
        time = "" if row["time"] is None else f"{row['time']:g}"
        cells = [time, row["dim"], *(f"{row[name]:.1%}" for name in names)]
        lines.append(" ".join([f"{row['layer']:{wide}}", *(f"{c:>7}" for c in cells)]))
    return "\n".join(lines)


def drawn(rows: Sequence[dict], chance: float) -> bytes:
    """Accuracy by layer, a line a time, as PNG."""
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    times = list(dict.fromkeys(row["time"] for row in rows))
    lines = {}
    for t in times:
        own = [row for row in rows if row["time"] == t]
        at = range(len(layers))
        if t is None:
            lines["linear probe"] = at, [row["linear"] for row in own]
            lines["nearest neighbours"] = at, [row["neighbours"] for row in own]
        else:
            lines[f"t = {t:g}"] = at, [row["linear"] for row in own]
        # As many components whatever the time.
        lines["components, linear"] = at, [row["pca_linear"] for row in own]
    lines["components, linear"] = lines.pop("components, linear")
    ticks = [layer.removeprefix("encoder/") for layer in layers]
    return line_plot(
        lines, "", "held-out accuracy", bars={"chance": chance}, ticks=ticks
    )


if __name__ == "__main__":
    run(main)
