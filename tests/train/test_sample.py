"""`train.sample` of several streams: files and words in, files and words out."""

import io
import pathlib
import sys
import types

import jax
import numpy as np
import pytest
import soundfile
from PIL import Image

import vqdit
from tests import toys
from train import errors, sample
from train.codec.examples import class_of, given_examples, signals_of
from train.codec.files import write_content
from train.errors import BadInput
from train.evaluation import drawing
from train.modalities import Images, Ranges, Series, Video, Volumes
from train.modalities.boxes import box_rows
from train.modalities.kinds import of_contract
from train.modalities.rows import csv_of
from train.report import samples
from train.report.samples import files_of
from vqdit import (
    Boxes,
    Bytes,
    Category,
    Continuous,
    Discrete,
    Gaussian,
    Labels,
    Masking,
    Number,
    Table,
)
from vqdit.signal import to_signal
from vqdit.trained.contract import LatentContract

RATE = 100


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Images, words of four bytes, labels of two classes, a stream of no tokenizer."""
    streams = [
        Continuous("image", (2, 2), 2),
        Discrete("text", (4,), 257),
        Discrete("word", (1,), 3),
        Discrete("beat", (2,), 3),
    ]
    processes = dict.fromkeys(("text", "word", "beat"), Masking())
    tokenizers = {"image": toys.codec(), "text": Bytes(4), "word": Labels(2)}
    processes = {"image": Gaussian(), **processes}
    model = toys.generator(streams, processes, tokenizers, names=("cat", "dog"))
    folder = tmp_path_factory.mktemp("any") / "bundle"
    vqdit.save(folder, model)
    return folder


def run(bundle, *argv):
    sample.main([f"--workdir={bundle}", "--steps=1", "--num=3", *argv])


def test_words_to_pictures_and_back(bundle, tmp_path, capsys):
    out = tmp_path / "drawn"
    given = ("--given.text=abc", "--given.word=dog")
    run(bundle, *given, "--want=image", f"--out={out}")
    assert sorted(p.name for p in out.iterdir()) == [
        "0.png",
        "1.png",
        "2.png",
        "sheet.png",
    ]
    capsys.readouterr()
    run(bundle, f"--given.image={out / '0.png'}", "--want=text,word")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["0", "1", "2"]
    assert all(line.split("\t")[2] in ("cat", "dog", "-1") for line in lines)
    run(bundle, "--given.word=1", "--want=image,text", f"--out={tmp_path / 'both'}")
    names = {p.name for p in (tmp_path / "both").iterdir()}
    assert {"0_text.txt", "2_image.png", "sheet_image.png"} <= names
    run(bundle, "--want=word", f"--out={tmp_path / 'w.txt'}")
    assert len((tmp_path / "w.txt").read_text().splitlines()) == 3


def test_pictures_are_named_by_what_they_were_drawn_of(bundle, tmp_path, monkeypatch):
    said, real = [], samples.sheet

    def seen(*how):
        said.append(list(how[-1]))
        return real(*how)

    monkeypatch.setattr(samples, "sheet", seen)
    run(bundle, "--given.text=abc", "--want=image", f"--out={tmp_path / 'a.png'}")
    run(bundle, "--given.word=dog", "--want=image,text", f"--out={tmp_path / 'b.png'}")
    assert said == [["abc"] * 3, ["dog"] * 3]


@pytest.mark.slow
def test_a_picture_by_way_of_a_word(bundle, tmp_path):
    """Which is drawn of what is given, and then given and guided by, but not kept."""
    out = tmp_path / "x.npz"
    text, seed = "--given.text=abc", "--seed=5"
    scales = ("--guidance.text=1", "--guidance.word=2")
    way = (text, "--want=image", "--before=word", *scales, seed, f"--out={out}")
    run(bundle, *way)
    assert np.load(out).files == ["image"]
    image = np.load(out)["image"]
    run(bundle, text, "--want=word", seed, f"--out={tmp_path / 'w.txt'}")
    words = (tmp_path / "w.txt").read_text().splitlines()
    given = (text, f"--given.word={words[0]}", "--want=image")
    run(bundle, *given, *scales, seed, f"--out={out}")
    np.testing.assert_array_equal(np.load(out)["image"][:1], image[:1])
    with pytest.raises(BadInput, match="--before=word: it is given"):
        run(bundle, "--given.word=cat", "--want=image", "--before=word")


def test_a_given_stream_has_a_scale_of_its_own(bundle, tmp_path):
    def drawn(*scales):
        out = tmp_path / "x.npz"
        given = ("--given.text=abc", "--given.word=dog", "--want=image")
        run(bundle, *given, f"--out={out}", *scales)
        return np.load(out)["image"]

    both = ("--guidance.text=3", "--guidance.word=3")
    apart = drawn("--guidance.text=1", "--guidance.word=3")
    assert (drawn(*both) != apart).any()
    np.testing.assert_array_equal(apart, drawn("--guidance={'text': 1, 'word': 3}"))
    for scales, message in (
        (("--guidance=2", "--guidance.word=3"), "is of all and --guidance.word of one"),
        (("--guidance.word=3",), "write a scale for each of text, word, or"),
    ):
        with pytest.raises(BadInput, match=message):
            drawn(*scales)


def test_boxes_are_written_and_given_as_a_table(tmp_path, capsys):
    value = Boxes(2, bins=4, classes=2, frames=2)
    streams = [Discrete("boxes", (2, 10), 7), Discrete("word", (1,), 3)]
    processes = dict.fromkeys(("boxes", "word"), Masking())
    tokenizers = {"boxes": value, "word": Labels(2)}
    vqdit.save(tmp_path / "bundle", toys.generator(streams, processes, tokenizers))
    model, table = vqdit.load(tmp_path / "bundle"), tmp_path / "a.csv"
    assert model.tokenizers["boxes"] == value
    box = np.float32([[[[0.125, 0.375, 0.625, 0.875, 1]], [[0, 0, 0, 0, -1]]]])
    table.write_bytes(csv_of(box_rows(np.repeat(box, 3, 0))))
    run(tmp_path / "bundle", f"--given.boxes={table}", "--want=word")
    assert len(capsys.readouterr().out.splitlines()) == 3
    words = tmp_path / "w.txt"
    run(tmp_path / "bundle", f"--given.boxes={table}", "--want=word", f"--out={words}")
    assert len(words.read_text().splitlines()) == 3
    draw = model.sampler(want="word", steps=1)
    keys = jax.random.key(0), np.arange(3)
    found = draw(*keys, given={"boxes": np.repeat(box, 3, 0)})
    codes = draw(*keys, given={"boxes": value.encode(box.repeat(3, 0))[..., None]})
    np.testing.assert_array_equal(found["word"], codes["word"])
    out = tmp_path / "drawn"
    run(tmp_path / "bundle", "--given.word=1", "--want=boxes", f"--out={out}")
    drawn = model.sampler(want="boxes", steps=1)(*keys, given={"word": np.ones(3, int)})
    rows = csv_of(box_rows(drawn["boxes"]))
    assert (out / "boxes.csv").read_bytes() == rows
    with pytest.raises(BadInput, match="--given.boxes=cat: write a .csv of boxes"):
        run(tmp_path / "bundle", "--given.boxes=cat", "--want=word")


def test_a_folder_is_given_one_file_after_the_other(bundle, tmp_path):
    (tmp_path / "texts").mkdir()
    for i, text in enumerate(("ab", "c")):
        (tmp_path / "texts" / f"{i}.txt").write_text(text + "\n")
    model = vqdit.load(bundle)
    given = {"text": str(tmp_path / "texts"), "word": "cat"}
    found = given_examples(model, given, False, False)
    assert found["text"].tolist() == ["ab", "c"] and found["word"].tolist() == [0]
    out = tmp_path / "x.npz"
    every = f"--given.text={tmp_path / 'texts'}"
    sample.main(
        [f"--workdir={bundle}", "--steps=1", every, "--want=word", f"--out={out}"]
    )
    assert np.load(out)["word"].shape == (2,)


def test_what_is_shown_of_what_is_given_stays_and_the_rest_is_drawn(bundle, tmp_path):
    """A text goes on after its first letters, each of three in its own way; of one that
    is not wanted the first letters are all that is seen."""
    words = tmp_path / "w.txt"
    (tmp_path / "texts").mkdir()
    for i, text in enumerate(("abcd", "abxy", "efgh")):
        (tmp_path / "texts" / f"{i}.txt").write_text(text)
    given = [f"--given.text={tmp_path / 'texts'}", "--shown.text=2"]
    run(bundle, *given, "--want=text", "--seed=1", f"--out={words}")
    drawn = words.read_bytes().split(b"\n")[:3]
    assert [text[:2] for text in drawn] == [b"ab", b"ab", b"ef"]
    assert drawn[0] != b"abcd" and drawn[2] != b"efgh"
    assert [text[2:3] for text in drawn] != [b"c", b"x", b"g"]
    model, out = vqdit.load(bundle), tmp_path / "x.npz"
    run(bundle, *given, "--want=word", "--seed=1", f"--out={out}")
    at = (jax.random.key(1), np.arange(3))
    of = {"given": {"text": ["abcd", "abxy", "efgh"]}}
    part = {"text": np.tile([True, True, False, False], (3, 1))}
    seen = model.sampler(want="word", steps=1)(*at, **of, known=part)["word"]
    assert np.load(out)["word"].tolist() == np.asarray(seen).tolist()


def test_a_picture_is_drawn_in_its_hole_alone(bundle, tmp_path):
    """(4, 4, 1) pixels of 2x2 latents: what stays comes back as it was, not decoded."""
    picture = np.random.default_rng(0).integers(0, 256, (4, 4)).astype(np.uint8)
    for name, pixels in (("a", picture), ("white", 255 * (np.indices((4, 4))[1] > 1))):
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{name}.png")
    out, drawn = tmp_path / "x.npz", {}
    white = str(tmp_path / "white.png")
    for hole in ("0.5,0,1,1", white, "0.6,0.1,0.9,0.3"):  # x0, y0, x1, y1
        given = f"--given.image={tmp_path / 'a.png'}"
        run(bundle, given, f"--hole.image={hole}", "--want=image", f"--out={out}")
        drawn[hole] = np.load(out)["image"][..., 0]
        assert drawn[hole].shape == (3, 4, 4) and drawn[hole].dtype == np.uint8
    np.testing.assert_array_equal(drawn["0.5,0,1,1"], drawn[white])
    np.testing.assert_array_equal(drawn[white][:, :, :2], [picture[:, :2]] * 3)
    assert (drawn[white][:, :, 2:] != picture[:, 2:]).mean() > 0.8
    corner = drawn["0.6,0.1,0.9,0.3"] != picture  # the whole block that it touches
    assert corner[:, :2, 2:].any() and corner.sum() == corner[:, :2, 2:].sum()


def test_a_text_has_blanks(bundle, tmp_path):
    """Each stands for one code; of a text that is not wanted they are not seen."""
    words, out = tmp_path / "w.txt", tmp_path / "x.npz"
    given = ["--given.text=a**d", "--hole.text=*", "--seed=1"]
    run(bundle, *given, "--want=text", f"--out={words}")
    drawn = words.read_bytes().split(b"\n")[:3]
    assert all(text[:1] == b"a" for text in drawn) and len({*drawn}) > 1
    assert b"a**d" not in drawn
    long = ["--given.text=aßßß", "--hole.text=ß", "--seed=1"]  # of two bytes each
    run(bundle, *long, "--want=text", f"--out={words}")
    model = vqdit.load(bundle)
    run(bundle, *given, "--want=word", f"--out={out}")
    at = (jax.random.key(1), np.arange(3))
    part = {"text": np.tile([True, False, False, True], (3, 1))}
    of = {"given": {"text": ["a00d"] * 3}, "known": part}
    seen = model.sampler(want="word", steps=1)(*at, **of)["word"]
    assert np.load(out)["word"].tolist() == np.asarray(seen).tolist()


def test_a_text_that_is_a_folders_name_is_a_text(bundle, tmp_path, monkeypatch):
    """And one of nothing is not the current folder."""
    (tmp_path / "ab").mkdir()
    for folder in (tmp_path, tmp_path / "ab"):
        (folder / "a.txt").write_text("c")
    monkeypatch.chdir(tmp_path)
    model = vqdit.load(bundle)
    read = lambda word: given_examples(model, {"text": word}, False, False)["text"]
    assert [read(word).tolist() for word in ("ab", "", "ab/")] == [["ab"], [""], ["c"]]
    with pytest.raises(BadInput, match="takes 301 codes"):  # longer than a file's name
        read("/" + 300 * "a")


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--given.txet=a"], "--given.txet: the streams are image, text, word, beat"),
        (["--want=sound"], "--want=sound: the streams are image, text, word, beat"),
        (["--given.text=a", "--want=text"], "--want=text: it is given, too"),
        (
            ["--given.text=seven", "--want=image"],
            "takes 5 codes, .* or --cut",
        ),
        (
            ["--given.word=cow", "--want=image"],
            "no class is called 'cow'",
        ),
        (["--given.word=7", "--want=image"], "--given.word=7: label 7: write 0 to 1"),
        (
            ["--given.beat=a", "--want=image"],
            "the bundle has no tokenizer of this",
        ),
        (
            ["--given.text=a", "--shown.text=4"],
            "--shown.text=4 leaves nothing: write at most 3",
        ),
        (["--given.word=cat", "--shown.word=1"], "this stream has one place; drop it"),
        (["--shown.text=2", "--want=word"], "--shown.text: write --given.text, of"),
        (
            ["--given.text=a", "--shown.txet=2"],
            "--shown.txet=2: the streams are image, text, word, beat",
        ),
        (["--shown.txet=2"], "--shown.txet=2: the streams are image, text, word, beat"),
        (["--before=txet"], "--before=txet: the streams are image, text, word, beat"),
        (
            ["--given.text=a", "--before=text"],
            "--before=text: it is given; leave one of the two out",
        ),
        (
            ["--hole.text=_", "--want=text"],
            "--hole.text: write --given.text, in which it is a hole",
        ),
        (["--hole.txet=_"], "--hole.txet: the streams are"),
        *(
            ([f"--given.{name}={word}", f"--hole.{name}={hole}", "--want=text"], said)
            for name, word, hole, said in (
                ("text", "a_", "__", "write one character, which stands"),
                ("text", "ab", "_", "nothing of what is given is in it"),
                ("text", "a____", "_", "takes 5 codes, and the stream has"),
                ("word", "cat", "_", "holes are of signals and texts"),
            )
        ),
        (
            ["--given.text=a_", "--hole.text=_", "--shown.text=1"],
            "--shown.text and --hole.text: leave one",
        ),
        (["--given.image=", "--want=text"], "--given.image: it is empty; write a file"),
        (["--given.image=no.png", "--want=text"], "--given.image: there is no no.png"),
        (["--given.text=a", "--want=beat"], "'beat' has no tokenizer; write a .npz"),
        (["--want=text,image", "--out=a.txt"], "'image' is no text; write a .png"),
        (["--given.=a"], "--given. is no option"),
    ],
)
def test_what_cannot_be_is_one_line(bundle, argv, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=message) as refusal:
        run(bundle, *argv)
    assert "\n" not in str(refusal.value) and not list(tmp_path.iterdir())


def test_nothing_wanted_is_one_line(bundle):
    every = [f"--given.{n}=a" for n in ("image", "text", "word", "beat")]
    with pytest.raises(BadInput, match="nothing is wanted; write --want= one of image"):
        run(bundle, *every)


def test_a_class_is_its_name_before_its_number():
    names = ("10", "cat", "2")
    assert [class_of(word, names) for word in ("10", "cat", "2", "1")] == [0, 1, 2, 1]


def test_a_text_is_cut_on_request(bundle):
    model = vqdit.load(bundle)
    given = lambda text: given_examples(model, {"text": text}, True, False)["text"]
    assert given("seven").tolist() == ["seve"]
    assert given("abc\u00e9").tolist() == ["abc"], "no half of a character"


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """Rows of a number and a category, and labels of two classes."""
    table = Table((Number("age", (40.0,), (30.5, 60.0)), Category("sex", ("f", "m"))))
    streams = [Discrete("record", (2,), 4), Discrete("kind", (1,), 3)]
    processes = {"record": Masking(), "kind": Masking()}
    tokenizers = {"record": table, "kind": Labels(2)}
    folder = tmp_path_factory.mktemp("clinic") / "bundle"
    vqdit.save(folder, toys.generator(streams, processes, tokenizers))
    return folder


def test_rows_are_completed_from_a_csv_to_a_csv(clinic, tmp_path, capsys):
    (tmp_path / "in.csv").write_text("sex,age\nf,\nm,70\n,20\n")
    given, out = f"--given.record={tmp_path / 'in.csv'}", tmp_path / "out.csv"
    run(clinic, given, "--want=record", f"--out={out}")
    lines = [line.split(",") for line in out.read_text().splitlines()]
    assert lines[0] == ["sex", "age"] and lines[2] == ["m", "70"]  # as in the file
    assert lines[1][0] == "f" and lines[3][1] == "20"
    # Columns that the table does not have stay, beside a word that nobody had, too.
    more = tmp_path / "more.csv"
    more.write_text("id,age,sex,ward\n007,,f,True\n12345678901234567,70,x,NA\n8,20,,\n")
    run(
        clinic, f"--given.record={more}", "--want=record", f"--out={tmp_path / 'm.csv'}"
    )
    kept = [row.split(",") for row in (tmp_path / "m.csv").read_text().splitlines()]
    assert kept[0] == ["id", "age", "sex", "ward"]
    assert [(row[0], row[3]) for row in kept[1:]] == [
        ("007", "True"),
        ("12345678901234567", "NA"),
        ("8", ""),
    ]
    assert kept[1][2] == "f" and kept[2][1] == "70" and kept[3][1] == "20"
    run(clinic, given, f"--out={tmp_path / 'both'}")
    names = {path.name for path in (tmp_path / "both").iterdir()}
    assert names == {"record.csv", "0_kind.txt", "1_kind.txt", "2_kind.txt"}
    assert (tmp_path / "both" / "record.csv").read_text() == out.read_text()
    run(clinic, given, "--want=record", f"--out={tmp_path / 'x.npz'}")
    found = np.load(tmp_path / "x.npz")
    assert found["age"][1:].tolist() == [70, 20] and found["sex"][0] == "f"
    capsys.readouterr()
    run(clinic, "--given.record=age=50,sex=f")
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [
        "0",
        "1",
        "2",
    ]
    run(clinic, "--given.record=sex=f", "--want=record")
    assert all(line.endswith(",sex=f") for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--given.record=agee=1"], "no column 'agee'; did you mean age"),
        (["--given.record=f"], "write a .csv, or column=value"),
        (["--given.record=no.csv"], "no.csv: No such file"),
        (["--given.record=age=1,sex=f", "--want=record"], "its rows have no gaps"),
        (["--given.record=age=1,sex=f", "--given.kind=0"], "its rows have no gaps"),
        (["--want=kind", "--out=a.csv"], "stream 'kind' has no rows"),
    ],
)
def test_rows_that_cannot_be_are_one_line(clinic, argv, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=message) as refusal:
        run(clinic, *argv)
    assert "\n" not in str(refusal.value) and not list(tmp_path.iterdir())


def test_a_chunk_of_complete_rows_beside_one_with_gaps(clinic, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "BATCH", 2)
    rows = ["age,sex", "1.25,f", "2,m", "3,f", ",m"]
    (tmp_path / "in.csv").write_text("\n".join(rows) + "\n")
    given, out = f"--given.record={tmp_path / 'in.csv'}", tmp_path / "out.csv"
    run(clinic, given, "--want=record", f"--out={out}")  # three rows, of which none has
    assert out.read_text().splitlines() == rows[:4]
    run(clinic, given, "--want=record", "--first=1", f"--out={out}")
    assert out.read_text().splitlines()[1:3] == rows[2:4]


def test_a_column_called_label_stays_beside_classes(tmp_path):
    table = Table((Number("label", (40.0,), (30.5, 60.0)),))
    streams, processes = [Discrete("record", (1,), 2)], {"record": Masking()}
    vqdit.save(tmp_path / "b", toys.generator(streams, processes, {"record": table}, 2))
    run(tmp_path / "b", "--label=1", f"--out={tmp_path / 'x.npz'}")
    assert set(np.load(tmp_path / "x.npz")["label"]) <= {30.5, 60}
    with pytest.raises(BadInput, match="--given.record: its rows have no gaps"):
        run(tmp_path / "b", "--given.record=label=3")


class Heard:
    """A codec of which only the contract is asked."""

    def __init__(self, kind, shape, rate=0.0, **more):
        signal = {"kind": kind, "shape": shape, "rate": rate} | more
        self.contract = type(
            "Contract", (), {"preparation": (), "scale": (), "names": (), **signal}
        )


def test_a_recording_is_its_middle_or_has_silence_around(tmp_path):
    """And of another rate where that is asked for."""
    tone = np.linspace(-0.9, 0.9, 12).astype(np.float32)
    path = tmp_path / "a.wav"
    soundfile.write(path, tone, RATE, subtype="FLOAT")
    heard = signals_of
    for length, expected in ((8, tone[2:10]), (16, np.pad(tone, 2)), (12, tone)):
        found = heard(Heard("audio", (length, 1), float(RATE)), str(path))
        np.testing.assert_allclose(found[0, :, 0], expected, atol=1e-4)
    other = Heard("audio", (6, 1), RATE / 2)
    with pytest.raises(BadInput, match="a.wav: it has a rate of 100 .*--resample"):
        heard(other, str(path))
    assert heard(other, str(path), resample=True).shape == (1, 6, 1)


def test_a_sound_of_another_rate_is_refused_and_of_another_length_is_fitted(
    tmp_path, capsys
):
    streams = [Continuous("audio", (8,), 2), Discrete("word", (1,), 3)]
    processes = {"audio": Gaussian(), "word": Masking()}
    tokenizers = {"audio": toys.sound(), "word": Labels(2)}
    vqdit.save(tmp_path / "bundle", toys.generator(streams, processes, tokenizers))
    folder, out, fitted = tmp_path / "sounds", tmp_path / "words.txt", []
    folder.mkdir()
    for name, length, rate in (("a", 21, 8000), ("b", 5, 8000), ("slow", 8, 4000)):
        path = folder / f"{name}.wav"
        soundfile.write(path, np.linspace(-0.9, 0.9, length), rate, subtype="FLOAT")
        fitted.append(f"{path}: ({length}, 1) is given as (16, 1)")
    draw = lambda argv: run(tmp_path / "bundle", "--want=word", f"--out={out}", *argv)
    refused = (
        f"error: --given.audio: {path}: it has a rate of 4000 a second and the stream "
        "8000; write --resample"
    )
    for given, before in ((path, []), (folder, fitted[:2])):
        with pytest.raises(SystemExit) as caught:
            errors.run(draw, [f"--given.audio={given}"])
        assert caught.value.code == 2 and not out.exists()
        assert capsys.readouterr().err.splitlines() == [*before, refused]
    draw([f"--given.audio={folder}", "--resample"])
    assert capsys.readouterr().err.splitlines()[:3] == fitted
    assert len(out.read_text().splitlines()) == 3


def test_a_csv_takes_rows_and_boxes_and_no_text(tmp_path):
    values = {"box": Boxes(1, bins=4, classes=2), "row": Table(()), "word": Labels(2)}
    model, out = types.SimpleNamespace(values=values, codecs={}), tmp_path / "a.csv"
    for want in (("box",), ("row",), ("row", "box")):
        assert sample._out(model, want, str(out)) == out
    for want in (("word",), ("box", "word")):
        with pytest.raises(BadInput, match="stream 'word' has no rows or boxes"):
            sample._out(model, want, str(out))


def test_a_name_with_a_dot_is_a_folder_unless_it_is_a_file_of_another_kind():
    assert sample._out(None, (), "run.v2") == pathlib.Path("run.v2")
    for name in ("grid.jpg", "clip.mp4", "sound.wav"):
        with pytest.raises(BadInput, match=f"--out={name}: write a .png"):
            sample._out(None, (), name)


@pytest.mark.parametrize(
    "kind, shape, rate, names",
    [
        ("audio", (512, 1), 2000.0, ["0.png", "0.wav", "1.png", "1.wav"]),
        ("series", (32, 2), 10.0, ["0.csv", "1.csv"]),
        ("image", (8, 8, 1), 0.0, ["0.png", "1.png"]),
        ("volume", (4, 5, 6, 1), 0.0, ["0.npy", "1.npy"]),
    ],
)
def test_a_file_each_and_beside_a_sound_its_spectrogram(kind, shape, rate, names):
    part = ((4,) * (len(shape) - 1), 1, (), (0.0,), (1.0,), "")
    contract = LatentContract(kind, shape, *part, rate=rate)
    x = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype(np.float32)
    signal = np.uint8(127 + 100 * x) if kind == "image" else x
    files = files_of(contract, signal, x)
    assert sorted(files) == names
    if kind == "audio":
        picture = Image.open(io.BytesIO(files["0.png"]))
        assert picture.width > 160 and picture.height > 128  # a curve over its rows


RNG = np.random.default_rng(0)


def test_drawn_scans_are_nifti_where_their_spacing_is_known(tmp_path, monkeypatch):
    """Others say nothing of it, and are given again without nibabel."""
    x, shape = RNG.uniform(-1, 1, (2, 4, 5, 6, 1)).astype(np.float32), (4, 5, 6, 1)
    spacing = ("spacing", (3.0, 2.0, 1.0))
    codec = Heard("volume", shape, offset=(), preparation=(spacing,))
    files = files_of(codec.contract, x, x)
    assert sorted(files) == ["0.nii.gz", "1.nii.gz"]
    write_content(tmp_path / "0.nii.gz", files["0.nii.gz"])
    found = signals_of(codec, str(tmp_path / "0.nii.gz"))
    np.testing.assert_array_equal(found, x[:1])
    monkeypatch.setitem(sys.modules, "nibabel", None)
    codec = Heard("volume", shape, offset=())
    files = files_of(codec.contract, x, x)
    assert sorted(files) == ["0.npy", "1.npy"]
    write_content(tmp_path / "0.npy", files["0.npy"])
    found = signals_of(codec, str(tmp_path / "0.npy"))
    np.testing.assert_array_equal(found, x[:1])


@pytest.mark.parametrize(
    "data, shape, rate",
    [
        (Images, (8, 8, 3), 0.0),
        (Video, (3, 8, 8, 3), 10.0),
        (Series, (9, 2), 0.0),
        (Volumes, (4, 5, 6, 1), 0.0),
        (Ranges, (4, 6, 1), 0.0),
    ],
)
def test_a_file_of_every_kind_is_the_example_that_it_was(data, shape, rate, tmp_path):
    """Written as a sample is, and given: what the file holds."""
    codec = Heard(data.kind, shape, rate)
    files = of_contract(codec.contract)
    assert files.sized(shape, rate).shape == shape
    values = RNG.uniform(0.1, 0.9, shape).astype(np.float32)
    values = (255 * values).astype(np.uint8) if data.pixels else values
    content = files.write(files.new(values, rate))
    path = tmp_path / f"a{data.suffixes[0] if not isinstance(content, dict) else ''}"
    write_content(path, content)
    found = signals_of(codec, str(path))
    assert found.shape == (1, *shape) and found.dtype == np.float32
    if data is not Video:  # a GIF has a palette
        expected = np.asarray(to_signal(values))
        np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_a_picture_is_brought_to_the_size(tmp_path):
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 10:30] = 255
    Image.fromarray(wide).save(tmp_path / "a.png")
    found = signals_of(Heard("image", (8, 8, 1)), str(tmp_path))
    np.testing.assert_allclose(found[:, :, 2:-2], np.ones((1, 8, 4, 1)))


def test_columns_beside_stay_with_their_rows_whatever_comes_first(clinic, tmp_path):
    (tmp_path / "in.csv").write_text("bed,age,sex\nx,,f\ny,70,\nz,20,\n")
    given, out = f"--given.record={tmp_path / 'in.csv'}", tmp_path / "out.csv"
    run(clinic, given, "--want=record", "--first=1", f"--out={out}")
    rows = [line.split(",") for line in out.read_text().splitlines()[1:]]
    assert [row[0] for row in rows] == ["y", "z", "x"]
    assert [row[1] for row in rows[:2]] == ["70", "20"] and rows[2][2] == "f"
