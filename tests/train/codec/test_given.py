"""What is given, and the holes in it: every word that stands for a part of a signal."""

import dataclasses
import types

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests import toys
from train.codec import examples, holes
from train.codec.examples import class_of, given_examples, signals_of
from train.errors import BadInput
from train.modalities.kinds import of_contract
from vqdit import Boxes, Bytes, Category, Gaussian, Labels, Masking, Number, Table


class Asked:
    """A codec of which only the contract is asked; a latent stands for two samples."""

    def __init__(self, kind, shape, rate=0.0, latents=True):
        signal = {"kind": kind, "shape": shape, "rate": rate}
        more = {"preparation": (), "scale": (), "offset": (), "names": ()}
        self.contract = types.SimpleNamespace(**signal, **more)
        self.latents = latents

    def known_latents(self, hole):
        if not self.latents:
            return np.zeros(len(hole), bool)
        n, *sides, _ = hole.shape
        split = [part for side in sides for part in (side // 2, 2)]
        axes = tuple(range(2, 2 * len(sides) + 1, 2))
        return hole[..., 0].reshape(n, *split).any(axes)


TABLE = Table((Number("age", (40.0,), (30.5, 60.0)), Category("sex", ("f", "m"))))


def generator(parts=(), **codecs):
    """Streams of a text, words, rows and boxes beside those of these codecs."""
    values = {"text": Bytes(6), "word": Labels(2), "row": TABLE}
    values["boxes"] = Boxes(2, bins=4, classes=2, frames=1)
    return types.SimpleNamespace(
        codecs=codecs,
        values=values,
        tokenizers=codecs | values,
        class_names=("cat", "dog"),
        parts=parts,
        processes=dict.fromkeys(values, Masking()) | dict.fromkeys(codecs, Gaussian()),
    )


def hole(codec, word):
    return holes._hole(codec, word, "--hole.x").astype(int)


def test_a_hole_is_all_that_its_span_touches():
    picture, clip = Asked("image", (4, 8, 1)), Asked("video", (2, 4, 8, 1))
    found = hole(picture, "0.25,0.5,0.8,1")  # of 8 columns 2 to 6.4, of 4 rows 2 to 4
    expected = np.zeros((4, 8), int)
    expected[2:4, 2:7] = 1
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(hole(clip, "0.25,0.5,0.8,1"), [expected] * 2)
    sound, series = Asked("audio", (8, 1), 20.0), Asked("series", (8, 2))
    assert hole(sound, "0.1,0.26").tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert hole(sound, "0.15,0.3").tolist() == [0, 0, 0, 1, 1, 1, 0, 0]
    assert hole(series, "0,1.5").tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert hole(series, "7,8").tolist() == [0, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "kind, shape, rate, word, line",
    [
        ("image", (4, 8, 1), 0.0, "0.5,0,0.2,1", "write from 0 to 1, the lower first"),
        ("image", (4, 8, 1), 0.0, "0,0.3,1,0.3", "write from 0 to 1, the lower first"),
        ("image", (4, 8, 1), 0.0, "0,0,1,1.5", "write from 0 to 1, the lower first"),
        ("image", (4, 8, 1), 0.0, "-1,0,1,1", "write from 0 to 1, the lower first"),
        ("audio", (8, 1), 20.0, "0,1", "write from 0 to 0.4, the lower first"),
        ("series", (8, 1), 0.0, "0,9", "write from 0 to 8, the lower first"),
        (
            *("image", (4, 8, 1), 0.0, "0,1"),
            "write x0,y0,x1,y1, or a picture that is white there",
        ),
        (
            *("video", (2, 4, 8, 1), 0.0, "0,1,a,b"),
            "write x0,y0,x1,y1, or a picture that is white there",
        ),
        ("audio", (8, 1), 20.0, "0,1,2", "write start,end"),
        ("audio", (8, 1), 20.0, "mask.png", "write start,end"),
        (
            *("volume", (2, 4, 4, 1), 0.0, "0,1"),
            "holes are of pictures, clips, sounds, series and texts",
        ),
        ("range", (4, 8, 1), 0.0, "0,0,1,1",
         "holes are of pictures, clips, sounds, series and texts"),
    ],
)  # fmt: skip
def test_a_hole_that_cannot_be_is_told_what_can(kind, shape, rate, word, line):
    with pytest.raises(BadInput) as refusal:
        hole(Asked(kind, shape, rate), word)
    assert str(refusal.value) == f"--hole.x: {line}"


def test_a_picture_is_a_hole_where_it_is_white(tmp_path):
    """Brought to the size, of any channels; half or darker is none."""
    codec = toys.codec()
    contract = dataclasses.replace(codec.contract, kind="video", shape=(3, 4, 4, 1))
    codec = dataclasses.replace(codec, contract=contract)
    shade = np.zeros((8, 8, 3), np.uint8)
    shade[:4, 4:], shade[4:] = 255, 40
    Image.fromarray(shade).save(tmp_path / "a.png")
    expected = np.zeros((4, 4), int)
    expected[:2, 2:] = 1
    found = hole(codec, str(tmp_path / "a.png"))
    np.testing.assert_array_equal(found, [expected] * 3)
    with pytest.raises(BadInput) as refusal:
        holes._hole(codec, "no.png", "--hole.x=no.png")
    line = "--hole.x: there is no no.png; write a file, or a folder of them"
    assert str(refusal.value) == line
    folder = tmp_path / "two.of"
    folder.mkdir()
    for name in "ab":
        Image.fromarray(shade).save(folder / f"{name}.png")
    with pytest.raises(BadInput) as refusal:
        hole(codec, str(folder))
    line = "--hole.x: write one picture, white where the hole is"
    assert str(refusal.value) == line


def with_holes(model, given, **words):
    return holes.with_holes(model, given, words)


def test_what_stays_is_where_nothing_is_in_the_hole(capsys):
    """Of latents that were never given in part that is said; of codes it is usual."""
    sound = Asked("audio", (8, 1), 20.0)
    given = {"sound": np.zeros((3, 8, 1)), "text": ["ab_d", "__"], "word": [1]}
    model = generator(sound=sound)
    found, stays = with_holes(model, given, sound="0.1,0.26", text="_")
    assert found.keys() == given.keys() and found["sound"] is given["sound"]
    assert stays["sound"].tolist() == [[True, False, False, True]] * 3
    blank = Bytes(6).padding
    assert found["text"][..., 0].tolist() == [
        [97, 98, blank, 100, blank, blank],
        [blank] * 6,
    ]
    assert stays["text"].astype(int).tolist() == [
        [1, 1, 0, 1, 1, 1],
        [0, 0, 1, 1, 1, 1],
    ]
    assert found["text"].dtype == np.int32 and given["text"] == ["ab_d", "__"]
    assert capsys.readouterr().err.splitlines() == [
        "sound: no parts of it were given in training (`Mixture`, parts); what is "
        "drawn around some is no better than that lets it be"
    ]
    with_holes(generator(("sound",), sound=sound), given, sound="0.1,0.26")
    assert not capsys.readouterr().err
    assert with_holes(model, given) == (given, {})


@pytest.mark.parametrize(
    "name, word, line",
    [
        ("sound", "0,0.4", "all of what is given is in it"),
        ("text", "_", "nothing of what is given is in it"),
        ("text", "", "write one character, which stands for a code"),
        ("text", "a", "the text takes 7 codes, and the stream has room for 6; write a "
         "shorter one"),
        ("word", "_", "holes are of signals and texts; of rows leave a column out"),
        ("whole", "0,0.1", "a latent of its tokenizer stands for no part of a signal; "
         "write --shown.whole, or drop it"),
    ],
)  # fmt: skip
def test_a_hole_in_what_has_none_is_refused(name, word, line):
    sound, whole = (Asked("audio", (8, 1), 20.0, latents) for latents in (True, False))
    given = {"sound": np.zeros((3, 8, 1)), "text": ["abbbbb"], "word": [1]}
    given["whole"] = given["sound"]
    if line.startswith("the text"):
        given["text"] = ["abaaaab"]
    with pytest.raises(BadInput) as refusal:
        with_holes(generator(sound=sound, whole=whole), given, **{name: word})
    assert str(refusal.value) == f"--hole.{name}={word}: {line}"


def test_a_recording_is_read_as_the_options_say(tmp_path, monkeypatch, capsys):
    path, sound = tmp_path / "a.wav", Asked("audio", (6, 1), 50.0)
    bare = (("dc", False), ("peak", None), ("loudness", None))
    sound.contract.preparation = bare
    soundfile.write(path, np.linspace(-0.5, 0.5, 20), 100, subtype="FLOAT")
    model, given = generator(sound=sound), {"sound": str(path)}
    found = given_examples(model, given, False, True)["sound"]
    assert found.shape == (1, 6, 1)
    # Five times from one to the next but one of a ramp of twenty.
    assert found[0, -1, 0] - found[0, 0, 0] == pytest.approx(10 / 19, abs=0.03)
    assert capsys.readouterr().err.splitlines() == [
        f"{path}: (20, 1) is given as (6, 1)"
    ]
    with pytest.raises(BadInput) as refusal:
        given_examples(model, given, True, False)
    assert str(refusal.value) == (
        f"--given.sound: {path}: it has a rate of 100 a second and the stream 50; "
        "write --resample"
    )
    (tmp_path / "b.wav").write_text("no sound\n")
    with pytest.raises(BadInput, match=f"^--given.sound: {tmp_path / 'b.wav'}: is a "):
        given_examples(model, {"sound": str(tmp_path / "b.wav")}, False, False)
    soundfile.write(path, np.linspace(-0.5, 0.5, 6), 50, subtype="FLOAT")
    assert given_examples(model, given, False, False)["sound"].shape == (1, 6, 1)
    assert not capsys.readouterr().err
    # Of what is stated by nobody, there or here, nothing differs.
    assert signals_of(Asked("audio", (6, 1)), str(path)).shape == (1, 6, 1)


@pytest.mark.parametrize(
    "columns, head", [((), b"channel_0,channel_1"), (("b", "a"), b"b,a")]
)
def test_a_drawn_series_is_given_as_it_was(tmp_path, columns, head):
    """With the column of times that training named, without which none is read."""
    drawn = np.float32([[3, 4], [5, 6], [7, 9]])
    motion = Asked("series", (3, 2), 10.0)
    motion.contract.preparation = (("columns", columns), ("time", "when"))
    data = of_contract(motion.contract)
    content = data.write(data.new(drawn, 10.0))
    first, _, third, *_ = content.split(b"\n")
    assert first == b"when," + head and third == b"0.1,5,6"
    (tmp_path / "a.csv").write_bytes(content)
    found = signals_of(motion, str(tmp_path / "a.csv"))
    np.testing.assert_array_equal(found, drawn[None])
    (tmp_path / "b.csv").write_text("1,2\n3,4\n5,6\n7,8\n")
    first = signals_of(Asked("series", (2, 2)), str(tmp_path / "b.csv"))
    assert first.tolist() == [[[1, 2], [3, 4]]]  # of two examples in it


def values(name, word, cut=False, holed=()):
    return given_examples(generator(), {name: word}, cut, False, holed)[name].tolist()


def test_a_word_is_a_value_of_its_stream(tmp_path, capsys):
    assert values("word", "dog") == [1] and values("word", "0") == [0]
    assert values("row", "age = 50 , sex=f,") == [{"age": "50", "sex": "f"}]
    (tmp_path / "rows.csv").write_text("sex,age\nf,20\nx,30\n")
    rows = values("row", str(tmp_path / "rows.csv"))
    assert [row["age"] for row in rows] == [20, 30] and rows[0]["sex"] == "f"
    assert rows[1]["sex"] is None  # which training never saw
    assert str(tmp_path / "rows.csv") in capsys.readouterr().err
    (tmp_path / "a.txt").write_text("ab\n\n")
    assert values("text", str(tmp_path / "a.txt")) == ["ab\n"]
    (tmp_path / "B.TXT").write_text("ba")
    assert values("text", str(tmp_path / "B.TXT")) == ["ba"]
    (tmp_path / "a.txt").write_bytes("ab\r\n".encode("utf-8-sig"))  # by Notepad
    assert values("text", str(tmp_path / "a.txt")) == ["ab"]
    assert values("text", "a/b") == ["a/b"] and values("text", "a.tx") == ["a.tx"]
    assert values("text", "abcdefgh", cut=True) == ["abcdef"]
    assert values("text", "a_______", holed=("text",)) == ["a_______"]


@pytest.mark.parametrize(
    "name, word, line",
    [
        ("other", "a", "the bundle has no tokenizer of this stream; give its codes or "
         "latents to generator.sampler"),
        ("text", "abcdefg", "the text takes 7 codes, and the stream has room for 6; "
         "write a shorter one, or --cut"),
        ("row", "age", "write a .csv, or column=value,column=value of age, sex"),
        ("row", "age=1, age=2", "age is there twice; write it once"),
        ("boxes", "1", "write a .csv of boxes"),
    ],
)  # fmt: skip
def test_a_word_that_is_none_is_refused(name, word, line):
    with pytest.raises(BadInput) as refusal:
        values(name, word)
    assert str(refusal.value) == f"--given.{name}={word}: {line}"


def test_a_text_that_is_none_is_named(tmp_path):
    """As a table of boxes is."""
    (tmp_path / "a.csv").write_text("x0,y0\n0,0\n")
    at = f"--given.boxes: {tmp_path / 'a.csv'}: "
    with pytest.raises(BadInput, match=f"^{at}no column"):
        values("boxes", str(tmp_path / "a.csv"))
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(BadInput) as refusal:
        values("text", str(tmp_path / "a.txt"))
    start = f"--given.text: {tmp_path / 'a.txt'}: no text of UTF-8 ("
    assert str(refusal.value).startswith(start)


def test_cells_beside_are_those_of_no_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,age,sex\n007,1,f\nNA,2,m\n")
    found = examples.cells_beside(TABLE, str(path), ["id", "age", "sex"])
    assert found == [{"id": "007"}, {"id": "NA"}]
    assert examples.cells_beside(TABLE, "age=1,id=7", ["id", "age"]) == []


def test_a_number_of_a_class_may_be_below_none():
    """Who reads it says which there are."""
    assert [class_of(word, ("a", "b")) for word in ("b", "7", "-1")] == [1, 7, -1]
    with pytest.raises(ValueError, match="no class is called '-b'"):
        class_of("-b", ("a", "b"))


def test_an_empty_word_and_what_is_shorter_than_the_stream_are_refused(tmp_path):
    with pytest.raises(BadInput) as refusal:
        signals_of(Asked("series", (4, 1)), "")
    assert str(refusal.value) == "it is empty; write a file or a folder"
    path = tmp_path / "a.csv"
    path.write_text("1\n2\n")
    with pytest.raises(BadInput) as refusal:
        signals_of(Asked("series", (4, 1)), str(path))
    assert str(refusal.value).startswith(f"{path}: 2 samples, fewer than ")
