"""Which option of `train.sample` arrives where, and what it draws without one.

The sampler is one that keeps what it is told, and draws texts and classes that say the
number of their sample.
"""

import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from tests import toys
from train import sample
from train.errors import BadInput
from train.evaluation.drawing import draw_all
from vqdit import (
    FSQ,
    Bytes,
    Category,
    Codec,
    Continuous,
    ConvDecoder,
    ConvEncoder,
    Discrete,
    Gaussian,
    Generator,
    Heun,
    Labels,
    Masking,
    Number,
    Table,
    Tokenizer,
)
from vqdit.trained.contract import contract_of

NAMES = ("cat", "dog", "owl")


def built(folder, streams, tokenizers, names=(), **more):
    """A bundle of three classes, of which the second was never trained."""
    of = {s.name: Masking() if isinstance(s, Discrete) else Gaussian() for s in streams}
    model = toys.generator(streams, of, tokenizers, 3)
    how = {"class_names": names, "untrained": (1,), **more}
    vqdit.save(folder, Generator(model.module, model.params, of, tokenizers, **how))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Images, texts of four bytes, words of three classes, rows."""
    table = Table((Number("age", (40.0,), (30.5, 60.0)), Category("sex", ("f", "m"))))
    streams = [
        Continuous("image", (2, 2), 2),
        Discrete("text", (4,), 257),
        Discrete("word", (1,), 4),
        Discrete("row", (2,), 4),
    ]
    tokenizers = {"image": toys.codec(), "text": Bytes(4), "word": Labels(3)}
    folder = tmp_path_factory.mktemp("options") / "bundle"
    return built(folder, streams, tokenizers | {"row": table}, NAMES)


def signals(ids, shape):
    return jnp.broadcast_to(jnp.zeros(shape), (len(ids), *shape))


DRAWN = {
    "image": lambda ids: signals(ids, (4, 4, 1)),
    "text": lambda ids: [f"t{i}" for i in ids],
    "word": lambda ids: np.asarray(ids) % 3,
    "row": lambda ids: [{"age": float(i), "sex": "m"} for i in ids],
    "motion": lambda ids: signals(ids, (8, 2)),
}

OPENED = {}  # bundles that were read before


@pytest.fixture
def told(monkeypatch, tmp_path):
    """made: what a sampler is made with. calls, written: what it and the writer of
    samples are called with. In a folder of its own."""
    told = types.SimpleNamespace(made=[], calls=[], written=[])

    def sampler(self, **how):
        told.made.append(how)

        def draw(key, ids, **call):
            call |= {"key": jax.random.key_data(key).tolist(), "ids": ids.tolist()}
            told.calls.append(call)
            return {name: DRAWN[name](ids) for name in how["want"]}

        return draw

    real = sample.write_samples

    def write(generator, *how):
        names = ("out", "x", "texts", "labels", "named")
        told.written.append(dict(zip(names, how, strict=True)))
        real(generator, *how)

    opening = sample.open_bundle

    def opened(path, *how):
        if (path, *how) not in OPENED:
            OPENED[path, *how] = opening(path, *how)
        return OPENED[path, *how]

    monkeypatch.setattr(sample, "open_bundle", opened)
    monkeypatch.setattr(Generator, "sampler", sampler)
    monkeypatch.setattr(sample, "write_samples", write)
    monkeypatch.chdir(tmp_path)
    return told


def run(bundle, *argv):
    sample.main([f"--workdir={bundle}", *map(str, argv)])


def texts_in(folder, *texts):
    folder.mkdir()
    for i, text in enumerate(texts):
        (folder / f"{i}.txt").write_text(text)
    return folder


@pytest.mark.parametrize(
    "argv, expected",
    [
        ((), {}),
        (("--steps=7",), {"steps": 7}),
        (("--shift=2.5",), {"shift": 2.5}),
        (("--before=word,text",), {"before": ("word", "text")}),
        (("--interval=(0.2,0.7)",), {"interval": (0.2, 0.7)}),
        (("--solver=Heun()",), {"solver": Heun()}),
        (("--guidance=3",), {"guidance": 3.0}),
        (
            ("--guidance.label=2", "--guidance.text=4"),
            {"guidance": {"label": 2.0, "text": 4.0}},
        ),
    ],
)
def test_an_option_of_the_sampler_is_the_samplers(bundle, told, argv, expected):
    run(bundle, "--want=image", "--num=1", *argv)
    assert told.made == [{"want": ("image",)} | expected]


def test_without_options_16_of_all_trained_classes_are_drawn(bundle, told, tmp_path):
    run(bundle, "--want=image")
    (call,), (written,) = told.calls, told.written
    assert call["ids"] == list(range(16)) and call["key"] == [0, 0]
    assert call["label"].tolist() == [0, 2] * 8 == written["labels"].tolist()
    assert call["given"] == {} and "known" not in call
    assert written["out"] == Path("grid.png") and written["texts"] == {}
    assert written["named"] == ["cat", "owl"] * 8
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]
    run(bundle, "--num=1")
    assert told.made[-1]["want"] == ("image", "text", "word", "row")
    several = {"grid_image.png", "grid_text.txt", "grid_word.txt", "grid_row.csv"}
    assert {path.name for path in tmp_path.iterdir()} == {"grid.png", *several}


def test_numbers_seed_and_class_are_those_asked_for(bundle, told):
    run(bundle, "--want=word", "--num=3", "--first=5", "--seed=4", "--out=x.npz")
    assert told.calls[0]["ids"] == [5, 6, 7] and told.calls[0]["key"] == [0, 4]
    with np.load("x.npz") as found:
        assert found["word"].tolist() == [2, 0, 1]
        assert found["label"].tolist() == [2, 0, 2]  # as the sixth has, of any number
    for label, number, name in (("owl", 2, "owl"), ("0", 0, "cat")):
        run(bundle, "--want=image", "--num=2", f"--label={label}", "--out=a.png")
        assert told.calls[-1]["label"].tolist() == [number] * 2
        assert told.written[-1]["named"] == [name] * 2


@pytest.mark.parametrize(
    "argv, line",
    [
        (["--first=2147483648"], "--first: write .* at least 0 and below 2147483648"),
        ([f"--first={10**30}"], "--first: write .* at least 0 and below 2147483648"),
        ([f"--seed={10**30}"], "--seed: write a whole number, at least 0"),
        (["--num=1000000000"], "--num=1000000000: samples of 64 bytes take 64 GB; "),
        (["--num=2147483648"], "--num: write a whole number, at least 1 and below"),
        (["--interval=(0.5)"], "--interval: write a tuple of a number"),
        (["--interval=0.5"], "--interval: write a tuple of a number"),
    ],
)
def test_a_number_that_none_can_be_is_one_line(bundle, told, argv, line):
    with pytest.raises(BadInput, match=line):
        run(bundle, "--want=image", *argv)
    assert not told.made


def test_what_no_sampler_draws_is_one_line(bundle):
    words = ["--want=image", "--guidance=2", "--interval=(0.8, 0.2)"]
    with pytest.raises(BadInput, match="interval=.*0.8"):
        run(bundle, *words)
    with pytest.raises(BadInput, match="before=image: .*; wanted is image$"):
        run(bundle, "--want=image", "--before=image")
    line = "^guidance of wrod: write a scale for each of label, row, text, word that"
    with pytest.raises(BadInput, match=line):
        run(bundle, "--want=image", "--guidance.wrod=2")


def test_seeds_of_more_than_32_bits_are_no_others(bundle, told):
    seeds = [4, 2**32 + 4, 2**40 + 4]
    for seed in seeds:
        run(bundle, "--want=image", "--num=1", f"--seed={seed}")
    keys = [tuple(call["key"]) for call in told.calls]
    assert keys[0] == (0, 4) and len(set(keys)) == len(seeds)


def test_samples_of_more_than_32_bits_are_no_others(bundle):
    generator = vqdit.load(bundle)
    draw = generator.sampler(want=("image",))
    with pytest.raises(ValueError, match="below 2.31"):
        draw_all(generator, draw, jax.random.key(0), np.arange(2) + 2**32, None)


def test_classes_without_names_are_called_by_their_numbers(told, tmp_path):
    streams, codec = [Continuous("image", (2, 2), 2)], {"image": toys.codec()}
    folder = built(tmp_path / "bundle", streams, codec)
    run(folder, "--num=3")
    assert told.written[0]["named"] == ["0", "2", "0"]
    assert told.made[0]["want"] == ("image",)


def test_of_fewer_files_than_others_the_first_are_given_again(bundle, told, tmp_path):
    """As many are drawn as the longest has, and each sample has its own by its number,
    what stays of it, and its title too."""
    two = texts_in(tmp_path / "two", "a_cd", "_b")
    (tmp_path / "rows.csv").write_text("age,sex\n20,f\n45,m\n70,f\n")
    given = (f"--given.text={two}", "--hole.text=_", "--given.row=rows.csv")
    run(bundle, *given, "--want=image", "--label=cat")
    assert told.calls[0]["ids"] == [0, 1, 2]
    run(bundle, *given, "--want=image", "--first=1", "--num=4", "--out=b.png")
    call = told.calls[1]
    assert [row["age"] for row in call["given"]["row"]] == [45, 70, 20, 45]
    first, second = [97, 256, 99, 100], [256, 98, 256, 256]
    assert call["given"]["text"][..., 0].tolist() == [second, first] * 2
    there = [True, False, True, True], [False, True, True, True]
    assert call["known"]["text"].tolist() == [there[1], there[0]] * 2
    run(bundle, *given, "--want=text,image", "--out=c.png")
    assert told.made[2]["want"] == ("text", "image")
    assert told.written[2]["texts"] == {"text": ["t0", "t1", "t2"]}


def test_what_is_shown_of_a_picture_stays_where_it_is_wanted(bundle, told, tmp_path):
    """The upper latents of two of it, over the two upper rows of pixels."""
    run(bundle, "--want=image", "--num=2", "--out=drawn")
    shown = ("--given.image=drawn/0.png", "--shown.image=1", "--num=2")
    run(bundle, *shown, "--want=word", "--out=w.txt")
    assert told.calls[1]["known"]["image"].tolist() == [[True, False]] * 2
    assert told.calls[1]["given"]["image"].shape == (2, 4, 4, 1)
    assert Path("w.txt").read_text() == "cat\ndog\n"
    run(bundle, *shown, "--want=image", "--out=more")
    assert told.made[2]["want"] == ("image",)


def test_titles_are_what_was_given_or_else_what_was_drawn(tmp_path, told):
    """In a bundle without classes; a text with a hole as it became, or as written."""
    streams = [Continuous("image", (2, 2), 2), Discrete("text", (4,), 257)]
    streams.append(Discrete("word", (1,), 4))
    of = {"image": Gaussian(), "text": Masking(), "word": Masking()}
    tokenizers = {"image": toys.codec(), "text": Bytes(4), "word": Labels(3)}
    vqdit.save(tmp_path / "b", toys.generator(streams, of, tokenizers, 0, NAMES))
    hole, number = ("--given.text=a_c", "--hole.text=_"), iter(range(9))
    for argv, named in (
        (("--want=image",), []),
        (("--want=image,word",), ["cat", "dog"]),
        (("--want=image,text,word",), ["t0", "t1"]),
        (("--given.word=2", "--want=image,text"), ["owl", "owl"]),
        ((*hole, "--want=image"), ["a_c", "a_c"]),
        ((*hole, "--want=image,text"), ["t0", "t1"]),
        (("--given.word=owl", *hole, "--want=image,text"), ["owl", "owl"]),
    ):
        run(tmp_path / "b", *argv, "--num=2", f"--out={next(number)}.png")
        assert list(told.written[-1]["named"]) == named
        assert told.calls[-1]["label"] is None is told.written[-1]["labels"]


def test_what_is_said_is_printed_by_the_numbers_of_samples(bundle, told, capsys):
    run(bundle, "--want=word,text", "--num=2", "--first=4")
    assert capsys.readouterr().out == "4\tdog\tt4\n5\towl\tt5\n"
    run(bundle, "--want=row", "--num=2", "--first=4")
    assert capsys.readouterr().out == "4\tage=4,sex=m\n5\tage=5,sex=m\n"
    assert not told.written
    run(bundle, "--want=word,text", "--num=2", "--out=both.txt")
    assert capsys.readouterr().out == ""
    found = {path.name: path.read_text() for path in Path().iterdir()}
    assert found == {"both_word.txt": "cat\ndog\n", "both_text.txt": "t0\nt1\n"}


def test_what_is_read_and_how_is_what_the_options_say(bundle, told, monkeypatch):
    seen, real = [], sample.given_examples

    def reading(generator, words, cut, resample, holed=()):
        seen.append((dict(words), cut, resample, set(holed)))
        return real(generator, words, cut, resample, holed)

    monkeypatch.setattr(sample, "given_examples", reading)
    for argv, expected in (
        (("--given.word=cat",), ({"word": "cat"}, False, False, set())),
        (("--given.text=ab", "--cut"), ({"text": "ab"}, True, False, set())),
        (
            ("--given.text=_b", "--hole.text=_"),
            ({"text": "_b"}, False, False, {"text"}),
        ),
    ):
        run(bundle, *argv, "--want=row", "--num=1")
        assert seen[-1] == expected
    assert told.calls[0]["given"]["word"].tolist() == [0]
    for flag in ("cut", "resample"):
        with pytest.raises(BadInput, match=f"^--{flag} is of a given .*; drop it$"):
            run(bundle, "--given.word=cat", f"--{flag}", "--want=row", "--num=1")


def test_beside_a_hole_numbers_are_as_in_the_file(told, tmp_path):
    """In the file's unit, at a bundle that has its own: 8 of 50 a second, two a latent;
    what is drawn, zeros, is the offset."""
    small = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}
    ends = ConvEncoder(**small, out=4, dims=1), ConvDecoder(**small, out=2, dims=1)
    module = Tokenizer(*ends, FSQ((3, 3)))
    variables = toys.drawn(module, jnp.zeros((1, 8, 2)))
    signal = {"kind": "series", "shape": (8, 2), "rate": 50.0}
    signal |= {"offset": (3.0, -2.0), "scale": (10.0, 0.5)}
    contract = contract_of(module, signal, (4,), (0, 0), (1, 1), variables)
    codec = {"motion": Codec(module, variables, contract)}
    folder = built(tmp_path / "bundle", [Continuous("motion", (4,), 2)], codec)
    values = np.arange(16).reshape(8, 2) + 7.0
    np.savetxt(tmp_path / "a.csv", values, delimiter=",")
    run(folder, "--given.motion=a.csv", "--hole.motion=0.04,0.08", "--out=x.npz")
    assert told.calls[0]["ids"] == [0]
    assert told.calls[0]["known"]["motion"].tolist() == [[True, False, True, True]]
    values[2:4] = 3, -2
    np.testing.assert_allclose(np.load("x.npz")["series"], values[None], rtol=1e-5)


@pytest.mark.parametrize(
    "argv, line",
    [
        (
            ("--given.text=no.txt", "--want=text"),
            "--want=text: it is given, too; leave one of the two out",
        ),
        (
            ("--given.row=age=1,sex=f", "--want=row"),
            "--want=row: it is given, too, and its rows have no gaps; nothing is to be "
            "drawn",
        ),
        (
            tuple(f"--given.{n}=no.txt" for n in ("image", "text", "word"))
            + ("--given.row=age=1,sex=f", "--want=word"),
            "--want=word: it is given, too; leave one of the two out",
        ),
        (
            ("--given.text=no.txt", "--shown.text=9"),
            "--shown.text=9 leaves nothing: write at most 3",
        ),
        (
            ("--shown.text=1", "--given.word=cat"),
            "--shown.text: write --given.text, of which it is a part",
        ),
        (
            ("--given.text=no.txt", "--hole.test=_"),
            "--hole.test: the streams are image, text, word, row",
        ),
        (
            ("--label=cow", "--want=word"),
            "--label=cow is none of the classes; write 0 to 2, or one of cat, dog, owl",
        ),
        (
            ("--label=cow", "--given.text=no.txt"),
            "--label=cow is none of the classes; write 0 to 2, or one of cat, dog, owl",
        ),
        (
            ("--out=there", "--given.text=no.txt"),
            "--out=there is there; remove it, or write a new folder",
        ),
        (
            ("--num=200000000", "--given.text=no.txt", "--want=image"),
            "--num=200000000: samples of 64 bytes take 12.8 GB; draw them in parts, "
            "--num=134217728 --first=0, then --first=134217728, ...",
        ),
        (("--out=a.jpg",), "--out=a.jpg: write a .png (a picture), a .npz (arrays), a "
         ".txt (texts), a .csv (rows, boxes), or a folder"),
        (("--out=there",), "--out=there is there; remove it, or write a new folder"),
        (("--out=there.png",), "--out=there.png is a folder; write a file"),
        (
            ("--want=word,image", "--out=a.txt"),
            "--out=a.txt: stream 'image' is no text; write a .png",
        ),
        (
            ("--want=row,word", "--out=a.csv"),
            "--out=a.csv: stream 'word' has no rows or boxes; write --want= those that "
            "have, or a folder",
        ),
    ],
)  # fmt: skip
def test_what_is_refused_is_refused_before_it_is_drawn(bundle, told, argv, line):
    """And before files are read that would not be taken."""
    for name in ("there", "there.png"):
        Path(name).mkdir()
    with pytest.raises(BadInput) as refusal:
        run(bundle, *argv)
    assert str(refusal.value) == line and not told.calls


def test_a_stream_without_a_tokenizer_has_no_files(tmp_path, told):
    folder = built(tmp_path / "bundle", [toys.PICTURE], {})
    assert toys.PICTURE.name == "image"
    for out in ((), ("--out=a.png",), ("--out=drawn",)):
        name = out[0][6:] if out else "grid.png"
        with pytest.raises(BadInput) as refusal:
            run(folder, *out)
        line = f"--out={name}: stream 'image' has no tokenizer; write a .npz"
        assert str(refusal.value) == line and not told.made
    run(folder, "--num=1", "--out=a.npz")
    assert sorted(np.load("a.npz").files) == ["image", "label"]


def test_every_row_that_is_given_whole_leaves_nothing_to_draw(tmp_path, told):
    table = Table((Number("age", (40.0,), (30.5, 60.0)),))
    folder = built(tmp_path / "b", [Discrete("row", (1,), 2)], {"row": table})
    with pytest.raises(BadInput) as refusal:
        run(folder, "--given.row=age=3")
    line = "--given.row: its rows have no gaps; nothing is to be drawn"
    assert str(refusal.value) == line and not told.made


@pytest.mark.parametrize(
    "classes, names, known",
    [
        (0, (), None),
        (0, tuple("ab"), None),
        (4, (), "0 to 3"),
        (20, tuple("abcdefghijklmnopqrst"), "0 to 19, or one of " +
         ", ".join("abcdefghijklmnopqrst")),
        (21, tuple("abcdefghijklmnopqrstu"), "0 to 20, or one of " +
         ", ".join("abcdefghijklmnopqrst") + ", ..."),
    ],
)  # fmt: skip
def test_a_class_that_is_none_is_told_which_there_are(classes, names, known):
    for word in (str(classes), "-1", "?"):
        with pytest.raises(BadInput) as refusal:
            sample.label_number(word, classes, names)
        line = f"--label={word} is none of the classes; write {known}"
        if not classes:
            line = f"--label={word}: the model has no classes; leave it out"
        assert str(refusal.value) == line
    if classes:
        assert sample.label_number("0", classes, names) == 0
        assert sample.label_number(str(classes - 1), classes, names) == classes - 1


def test_without_a_generator_the_flag_is_named(tmp_path):
    with pytest.raises(BadInput, match="^write --workdir=DIR, the workdir or"):
        sample.main([])
