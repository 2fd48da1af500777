"""train.probe as a program: where options arrive, and what it writes and says."""

import dataclasses
import json
import types

import numpy as np
import pytest

import vqdit
from tests import toys
from tests.train.experiments import of_values
from train import probe
from train.config import Run, StageOne
from train.config.workdir import save_config
from train.errors import BadInput
from train.modalities import Images
from train.pipeline import open_examples
from vqdit import Continuous, Discrete, Gaussian, Labels, Masking
from vqdit.tokenizer import Bytes
from vqdit.trained.codec import Codec
from vqdit.trained.generator import Generator

DATA = Images(name="digits", size=4, channels=1, threads=0)
ROWS = [
    {"layer": "encoder/conv_in", "time": None, "dim": 4, "linear": 0.5}
    | {"neighbours": 0.25, "pca_linear": 0.75, "pca_neighbours": 0.5},
    {"layer": "latents", "time": None, "dim": 2, "linear": 0.625}
    | {"neighbours": 0.375, "pca_linear": 0.875, "pca_neighbours": 0.0},
]
SAID = {
    "target": "label",
    "classes": ["3", "5", "7"],
    "examples": [8, 4],
    "left_out": 0,
}
SAID |= {"chance": 0.5}


@pytest.fixture
def layered(monkeypatch):
    """Extractors are what they were asked for, and nothing is traced."""

    def extractor(self, layers, *how):
        how = how if isinstance(self, Generator) else (None, *how, "x")
        time, pool, of = how
        return types.SimpleNamespace(layers=layers, time=time, pool=pool, of=of or "a")

    for kind in (Codec, Generator):
        monkeypatch.setattr(kind, "extractor", extractor)
        monkeypatch.setattr(kind, "layers", ("first", "last"))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder, codec = tmp_path_factory.mktemp("tok"), toys.codec()
    vqdit.save(folder / "bundle", codec)
    experiment = StageOne(name="tok", data=DATA, model=codec.module, run=Run(2, 2))
    save_config(experiment, folder / "config.json")
    return folder


@pytest.fixture
def called(monkeypatch, layered):
    """Name of what is called -> what it is called with."""
    found = {}

    def stands(name, gives):
        def call(*of, **how):
            found[name] = (*of, how) if how else of
            return gives

        monkeypatch.setattr(probe, name, call)

    stands("labelled_parts", ("training", "held out", SAID))
    stands("table", ROWS)
    stands("drawn", b"a picture")
    return found


def test_the_table_is_written_drawn_and_printed(workdir, called, capsys):
    probe.main([f"--workdir={workdir}"])
    figures = {"experiment": "tok", "pool": "mean", **SAID, "rows": ROWS}
    text = json.dumps(figures, indent=1) + "\n"
    assert (workdir / "probe.json").read_text() == text
    assert (workdir / "probe.png").read_bytes() == b"a picture"
    assert called["labelled_parts"] == (DATA,) and called["drawn"] == (ROWS, 0.5)
    asked, *parts, key = called["table"]
    assert parts == ["training", "held out"] and asked.extractor.layers == (
        "first",
        "last",
    )
    said = capsys.readouterr()
    assert said.err == f"the table is in {workdir}/probe.json, its picture beside it\n"
    assert said.out.splitlines() == [
        "label, 3 classes: 8 training and 4 held-out examples, 50.0% by the commonest "
        "class; standard error at most 25.0%",
        "layer              time    dims  linear     pca nearest     pca",
        "encoder/conv_in               4   50.0%   75.0%   25.0%   50.0%",
        "latents                       2   62.5%   87.5%   37.5%    0.0%",
    ]


def test_columns_stand_below_their_titles_whatever_the_layers_are_called():
    """And data have a time, which is 0."""
    short = [
        row | {"layer": name, "time": 0.0} for name, row in zip("ab", ROWS, strict=True)
    ]
    assert probe.text(short, SAID).splitlines()[1:] == [
        "layer    time    dims  linear     pca nearest     pca",
        "a           0       4   50.0%   75.0%   25.0%   50.0%",
        "b           0       2   62.5%   87.5%   37.5%    0.0%",
    ]


def test_each_option_arrives_where_it_is_of(workdir, called, tmp_path):
    out = tmp_path / "new" / "t.json"
    words = "--layers=last --pool=flat --target=name:(.) --train_most=9 --most=5"
    words += f" --out={out} --config.name=other"
    probe.main([f"--workdir={workdir}", *words.split()])
    how = {"target": "name:(.)", "train_most": 9, "held_most": 5}
    assert called["labelled_parts"] == (DATA, how)
    asked, *_ = called["table"]
    assert (asked.extractor.layers, asked.extractor.pool) == (("last",), "flat")
    assert sorted(path.name for path in out.parent.iterdir()) == ["t.json", "t.png"]
    figures = json.loads(out.read_text())
    assert (figures["experiment"], figures["pool"]) == ("other", "flat")


@pytest.mark.parametrize(
    "words, said",
    [
        ("--times=0.5", "--times is of a generator; drop it"),
        ("--times=()", "--times: write .*one or more"),
        ("--layers=()", "--layers: write .*one or more"),
        ("--of=x", "--of is of a generator; drop it"),
        ("--seed=3", "--seed is of a generator; drop it"),
        ("--config.data.size=8", r"the tokenizer takes image \(4, 4, 1\), the data gi"),
        ("--out=t.png", "--out=t.png: write a .json"),
        ("--target=name:(", r"--target=name:\(: missing \)"),
        ("--target=name:7", "--target=name:7: write a pattern with one group"),
    ],
)
def test_what_a_tokenizer_is_not_asked_for_is_refused(workdir, called, words, said):
    with pytest.raises(BadInput, match=said):
        probe.main([f"--workdir={workdir}", words])
    assert not called


def test_one_process_probes_a_run(workdir, called, monkeypatch):
    with pytest.raises(BadInput, match="write --workdir=..., a run's folder"):
        probe.main(["--config=configs/digits_joint.py"])
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with pytest.raises(BadInput, match="this program is for one process"):
        probe.main([f"--workdir={workdir}"])


def test_a_tokenizer_sees_signals_and_competes_with_them(layered):
    experiment = StageOne(
        name="tok", data=DATA, model=toys.codec().module, run=Run(2, 2)
    )
    asked = probe.opened(toys.codec(), experiment, {})
    assert asked.times == (None,) and asked.data == DATA
    batch = open_examples(DATA, True).take(np.arange(3))
    x = batch["x"] / 127.5 - 1
    np.testing.assert_allclose(asked.shown(batch), x, atol=1e-6)
    np.testing.assert_allclose(asked.signal(batch), x.reshape(3, 16), atol=1e-6)


def test_a_generator_sees_one_stream_and_competes_with_what_it_is(layered):
    """A picture's values, a label's one of ten and none; else what it is itself."""
    streams = [Continuous("a", (2, 2), 2), Discrete("b", (1,), 11)]
    streams += [Continuous("c", (4, 4), 1), Discrete("d", (3,), 257)]
    processes = {"a": Gaussian(), "b": Masking(), "c": Gaussian(), "d": Masking()}
    labels = {"b": Labels(10), "d": Bytes(3)}
    made = toys.generator(streams, processes, {"a": toys.codec(), **labels})
    other = dataclasses.replace(DATA, channels=3)
    data = {"a": DATA, "b": other, "c": DATA, "d": DATA}
    experiment = of_values("any", data, {"a": "tok", "c": None, **labels})
    flags = {"layers": ("last",), "pool": "flat", "of": "b", "times": (0.0, 1.0)}
    asked = probe.opened(made, experiment, flags)
    found = asked.extractor
    assert (found.layers, found.time, found.pool) == (("last",), 0.0, "flat")
    assert (found.of, asked.times, asked.data) == ("b", (0.0, 1.0), other)
    batch = {"x": np.full((2, 4, 4, 1), 255, np.uint8), "label": np.array([3, 0])}
    assert [*asked.shown(batch)] == ["b"] and [*asked.shown(batch)["b"]] == [3, 0]
    assert asked.signal(batch).tolist() == np.eye(11)[[3, 0]].tolist()
    asked = probe.opened(made, experiment, {})
    found = asked.extractor
    assert (found.layers, found.pool, found.of) == (("first", "last"), "mean", "a")
    assert asked.times == (0.0, 0.25, 0.5, 0.75) and asked.data == DATA
    assert [*asked.shown(batch)] == ["a"] and (asked.shown(batch)["a"] == 1).all()
    assert asked.signal(batch).tolist() == [[1.0] * 16] * 2
    asked = probe.opened(made, experiment, {"of": "c"})
    batch = {"x": np.arange(32.0).reshape(2, 4, 4, 1), "label": np.array([3, 0])}
    assert asked.shown(batch)["c"] is batch["x"]
    assert asked.signal(batch).tolist() == np.arange(32.0).reshape(2, 16).tolist()
    assert asked.signal(batch).dtype == np.float32
    words = {"caption": ["ab", "c"], "label": np.array([3, 0])}
    assert [*probe.opened(made, experiment, {"of": "d"}).shown(words)["d"]] == [
        "ab",
        "c",
    ]
    for t in (-0.25, 1.25):
        with pytest.raises(BadInput, match=f"--times: {t} is none; write 0"):
            probe.opened(made, experiment, {"times": (0.5, t)})
    with pytest.raises(BadInput, match="the tokenizer takes image"):
        probe.opened(made, of_values("any", {"a": other}, {"a": "tok"}), {})


def test_the_picture_has_a_line_of_each_time_and_one_of_components(monkeypatch):
    """Without a time what is read linearly and by neighbours."""
    found = []
    monkeypatch.setattr(probe, "line_plot", lambda *of, **how: found.append((of, how)))
    probe.drawn(ROWS, 0.1)
    timed = [
        row | {"time": t, "linear": row["linear"] - t, "pca_linear": pca}
        for t, pca in ((0.0, 0.25), (0.5, 0.125))
        for row in ROWS
    ]
    probe.drawn(timed, 0.2)
    (one, how), (other, _) = found
    lines = lambda of: {name: [*map(list, line)] for name, line in of[0].items()}
    assert [*lines(one).items()] == [
        ("linear probe", [[0, 1], [0.5, 0.625]]),
        ("nearest neighbours", [[0, 1], [0.25, 0.375]]),
        ("components, linear", [[0, 1], [0.75, 0.875]]),
    ]
    assert one[1:] == ("", "held-out accuracy")
    assert how == {"bars": {"chance": 0.1}, "ticks": ["conv_in", "latents"]}
    assert [*lines(other).items()] == [
        ("t = 0", [[0, 1], [0.5, 0.625]]),
        ("t = 0.5", [[0, 1], [0.0, 0.125]]),
        ("components, linear", [[0, 1], [0.125, 0.125]]),
    ]
