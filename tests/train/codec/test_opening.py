"""Which tokenizers the codec takes, how many tiles at once, and what --fit does."""

import dataclasses
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vqdit
from tests import toys
from tests.train.experiments import TOKENIZER
from train.codec import counting, files, layout
from train.codec.coder import Coder
from train.codec.container import Header
from train.codec.files import open_tokenizer, targets
from train.codec.layout import Opened
from train.codec.prior import FILE, MOST_CODES, Prior, count_codes, write_prior
from train.errors import BadInput


def opened(monkeypatch, **fields):
    """What becomes of a bundle whose contract has these fields."""
    contract = types.SimpleNamespace(
        **{"codes": (9,), "kind": "image", "preparation": ()} | fields
    )
    codec, asked = types.SimpleNamespace(contract=contract), []
    opening = lambda *of: asked.append(of) or codec
    monkeypatch.setattr(files.opening, "open_bundle", opening)
    found = open_tokenizer("runs/tok")
    assert asked == [("runs/tok", vqdit.Codec, "--bundle")] and found is codec


@pytest.mark.parametrize(
    "fields, line",
    [
        ({"codes": ()}, "--bundle: runs/tok is a continuous tokenizer, which has no "
         "codes to store; write one with a quantizer"),
        ({"codes": (9, MOST_CODES + 1)}, "--bundle: runs/tok has books of 1048577 "
         "codes; the codec takes up to 1048576"),
        ({"preparation": (("columns", ()),)}, "--bundle: runs/tok was trained on files "
         "prepared by 'columns', which this program does not know; take the one that "
         "trained it"),
    ],
)  # fmt: skip
def test_a_tokenizer_that_the_codec_does_not_take_is_told_why(
    monkeypatch, fields, line
):
    opened(monkeypatch, codes=(9, MOST_CODES))
    opened(monkeypatch, kind="series", preparation=(("columns", ()),))
    with pytest.raises(BadInput) as refusal:
        opened(monkeypatch, **fields)
    assert str(refusal.value) == line


def test_a_kind_that_is_none_is_told_with_the_bundle(monkeypatch):
    with pytest.raises(BadInput, match="^--bundle: runs/tok: "):
        opened(monkeypatch, kind="smell")


def of_shape(shape, data=None):
    codec = types.SimpleNamespace(contract=types.SimpleNamespace(shape=shape, rate=8.0))
    return Opened(codec, None, data)


@pytest.mark.parametrize(
    "shape, most, batch",
    [
        ((4, 4, 1), 1, 1),
        ((4, 4, 1), 2, 2),
        ((4, 4, 1), 3, 4),
        ((4, 4, 1), 32, 32),
        ((4, 4, 1), 1000, 32),
        ((2**18, 2), 1000, 4),  # of 2**21 values at once
        ((2**22, 2), 1000, 1),
    ],
)
def test_as_many_tiles_go_at_once_as_there_are_and_as_fit(shape, most, batch):
    assert of_shape(shape).batched(most).batch == batch
    assert of_shape(shape).batch == 32


def header(rate, length, size):
    return Header("audio", ".wav", b"", (size, 1), 1, Coder(), rate=rate, length=length)


@pytest.mark.parametrize(
    "rate, length, size, fits",
    [
        (16.0, 50, 100, True),
        (16.0, 22, 100, False),
        (16.0, 23, 100, True),  # 23 / 8 of a second are 2.9, 100 / 16 are 6.25
        (16.0, 104, 100, True),
        (16.0, 105, 100, False),
        (4.0, 200, 100, True),
        (4.0, 1, 1, True),
    ],
)
def test_a_length_is_that_at_the_bundles_rate(rate, length, size, fits):
    """8 a second: within twice of each other, and a few samples."""
    if fits:
        return of_shape((4, 1))._check_rate(header(rate, length, size))
    with pytest.raises(ValueError) as refusal:
        of_shape((4, 1))._check_rate(header(rate, length, size))
    line = f"{size} samples at {rate:g} a second are not {length} at 8"
    assert str(refusal.value) == line


def test_targets_are_in_the_folder_and_replaced_by_their_like(tmp_path, monkeypatch):
    out = tmp_path / "out"
    names = [(tmp_path / "a.vqd", ".png"), (tmp_path / "b.vqd", "")]
    assert targets(str(out), names, False) == [out / "a.png", out / "b"]
    (out / "a.png").mkdir(parents=True)
    (out / "b").write_text("")
    for each, what in zip(names, ("a.png is a folder", "b is a file"), strict=True):
        with pytest.raises(BadInput) as refusal:
            targets(str(out), [each], True)
        line = f"{out}/{what}; remove it, or write to another --out"
        assert str(refusal.value) == line
    with pytest.raises(BadInput) as refusal:
        two = [(Path("x/a.vqd"), ".png"), (Path("y/a.vqd"), ".png")]
        targets(str(tmp_path / "new"), two, True)
    assert str(refusal.value) == (
        f"x/a.vqd and y/a.vqd would both become {tmp_path}/new/a.vqd.png; rename one, "
        "or write them to two folders"
    )
    other = [(Path("x/a.gif"), ".vqd"), (Path("y/a.png"), ".vqd")]
    found = targets(str(tmp_path / "new"), other, False)
    assert [path.name for path in found] == ["a.gif.vqd", "a.png.vqd"]
    # A file is replaced, a folder of frames too, and one that holds more is not.
    (out / "c.png").write_text("")
    picture(out / "d" / "0.png")
    both = [(tmp_path / "c.vqd", ".png"), (tmp_path / "d.vqd", "")]
    assert targets(str(out), iter(both), True) == [out / "c.png", out / "d"]
    with pytest.raises(BadInput, match="c.png is there; write --force to replace it"):
        targets(str(out), both, False)
    (out / "d" / "note.txt").write_text("")
    with pytest.raises(BadInput) as refusal:
        targets(str(out), both, True)
    line = f"{out}/d holds more than frames; remove it, or write to another --out"
    assert str(refusal.value) == line
    monkeypatch.chdir(tmp_path / "out" / "d")
    found = targets(str(tmp_path / "new"), [(Path("."), ".vqd")], False)
    assert found == [tmp_path / "new" / "d.vqd"]
    scan = [(Path("x/a.nii.gz"), ".vqd"), (Path("x/b.c.png"), ".vqd")]
    found = targets(str(tmp_path / "new"), scan, False)
    assert [path.name for path in found] == ["a.vqd", "b.c.vqd"]


def test_a_record_is_a_file_or_a_folder_and_read_as_it_is_written(tmp_path):
    files.write_content(tmp_path / "a", b"one")
    files.write_content(tmp_path / "b", {"0.png": b"two", "1.png": b"three"})
    assert (tmp_path / "a").read_bytes() == b"one"
    found = {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert found == {"0.png": b"two", "1.png": b"three"}
    data = types.SimpleNamespace(
        write=lambda record: record.content,
        reread=lambda path, record: (path.name, path.read_bytes(), record),
    )
    record = types.SimpleNamespace(content=b"four", suffix=".wav")
    assert files.as_written(data, record) == ("signal.wav", b"four", record)


@pytest.fixture
def fitting(tmp_path, monkeypatch):
    """What is counted, in place of it: a book by places and one of all together."""
    asked = []
    counts = (np.arange(12).reshape(4, 3), np.array([[5, 1195]]))
    prior = Prior("0" * 64, counts, (4, 4))
    monkeypatch.setattr(counting, "open_tokenizer", lambda path: f"codec of {path}")
    fit = lambda codec, data: asked.append((codec, data)) or prior
    monkeypatch.setattr(counting, "fit_prior", fit)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.py").write_text(
        "from tests.train.experiments import TOKENIZER\nCONFIG = TOKENIZER\n"
    )
    (tmp_path / "run" / "bundle").mkdir(parents=True)
    (tmp_path / "tok").mkdir()
    return asked


def test_counts_lie_beside_the_bundle_that_is_named(fitting, tmp_path, capsys):
    """That of --bundle before the workdir's; what is there is replaced on request."""
    counting.main(["--fit", "--config=c.py", "--workdir=run"])
    assert [codec for codec, _ in fitting] == ["codec of run"]
    assert fitting[0][1] == TOKENIZER.data
    assert capsys.readouterr().err.splitlines() == [
        "book 0: 66 codes counted, its own table at every place of the grid",
        "book 1: 1,200 codes counted, one table for all places",
        f"run/bundle/{FILE} is written; train.compress uses it from here on",
    ]
    both = ["--fit", "--config=c.py", "--workdir=run", "--bundle=tok"]
    counting.main(both)
    assert fitting[1][0] == "codec of tok" and (tmp_path / "tok" / FILE).exists()
    before = (tmp_path / "tok" / FILE).read_bytes()
    with pytest.raises(BadInput) as refusal:
        counting.main(both)
    assert str(refusal.value) == (
        f"tok/{FILE} is there, and files coded under it could not be read under "
        "another; write --force to replace it"
    )
    assert len(fitting) == 2
    counting.main([*both, "--force"])
    assert len(fitting) == 3 and (tmp_path / "tok" / FILE).read_bytes() == before


def test_data_of_each_stream_are_none_to_count(fitting, tmp_path):
    (tmp_path / "c.py").write_text(
        "import dataclasses\nfrom tests.train.experiments import JOINT\n"
        "data = dict.fromkeys(JOINT.streams, JOINT.one_data)\n"
        "CONFIG = dataclasses.replace(JOINT, data=data)\n"
    )
    with pytest.raises(BadInput, match="data is one a stream, of image, text: write"):
        counting.main(["--fit", "--config=c.py", "--workdir=run"])
    assert not fitting


def test_what_is_missing_or_too_much_for_counting_is_told(fitting):
    for argv, line in (
        (["--config=c.py", "a.png"], "--fit reads the training set; leave a.png out"),
        (
            ["--config=c.py"],
            "write --workdir=DIR, or --bundle=DIR with --config=FILE",
        ),
    ):
        with pytest.raises(BadInput) as refusal:
            counting.main(["--fit", *argv])
        assert str(refusal.value) == line
    assert not fitting


def test_codes_of_examples_that_fill_up_a_batch_are_not_counted(monkeypatch):
    """Five of the training part, in batches of four: three rows are no examples'."""
    chosen, asked = types.SimpleNamespace(spaced=lambda most: ("rows", most)), []

    def examples(data, train, rows, doing):
        asked.append((data, train, rows, doing))
        for first, valid in ((0, 4), (4, 1)):
            x = np.zeros((4, 2, 2, 1), np.uint8) + first
            yield {"x": x, "valid": np.arange(4) < valid}

    part = lambda codec, data, train: asked.append((data, train)) or chosen
    monkeypatch.setattr(counting, "examples_for", part)
    monkeypatch.setattr(counting, "examples", examples)
    coded = lambda x: types.SimpleNamespace(codes=np.zeros((len(x), 2, 2, 1), int))
    contract = types.SimpleNamespace(codes=(9,), fingerprint="ab")
    codec = types.SimpleNamespace(contract=contract, encode=coded)
    found = counting.fit_prior(codec, "data", 7)
    assert asked == [("data", True), ("data", True, ("rows", 7), "counting codes")]
    assert found.counts[0].sum() == 5 * 4 and found.fingerprint == "ab"


def test_a_prior_is_read_from_beside_the_weights(tmp_path):
    """Of a workdir, in its bundle; and a batch is as asked for."""
    codec = toys.codec()
    vqdit.save(tmp_path / "run" / "bundle", codec)
    assert files.open_codec(tmp_path / "run").prior is None
    codes = np.zeros((2, 2, 2, 1), int)
    prior = count_codes([codes], (9,), codec.contract.fingerprint)
    write_prior(tmp_path / "run" / "bundle", prior)
    found = files.open_codec(tmp_path / "run", batch=3)
    assert found.prior.name == prior.name and found.batch == 3
    assert files.open_codec(tmp_path / "run").batch == layout.BATCH
    assert found.data.kind == "image"
    assert dataclasses.replace(found, batch=1).contract is found.contract


def waves(**fields):
    """A tokenizer of waveforms whose outputs see a bounded stretch."""
    how = {
        "front": None,
        "encoder": 3,
        "decoder": 2,
        "shape": (8, 1),
        "code_grid": (4,),
    }
    how |= fields
    seen = {
        name: types.SimpleNamespace(context=how[name])
        for name in ("encoder", "decoder")
    }
    module = types.SimpleNamespace(front=how["front"], **seen)
    contract = types.SimpleNamespace(
        shape=how["shape"], grid=(4,), code_grid=how["code_grid"], rate=8.0
    )
    codec = types.SimpleNamespace(module=module, contract=contract)
    return Opened(codec, None, types.SimpleNamespace(around=None))


@pytest.mark.parametrize(
    "other",
    [
        {"front": "mel"},
        {"encoder": None},
        {"decoder": None},
        {"shape": (8, 8, 1)},
        {"code_grid": (1,)},  # a code is of the whole example
    ],
)
def test_signals_go_through_in_one_where_an_output_sees_a_stretch(other):
    assert waves().whole and not waves(**other).whole
    with pytest.raises(ValueError) as refusal:
        waves(**other).layout((8,) * len(waves(**other).contract.shape), 0, True)
    assert "is not the bundle's kind" in str(refusal.value)
    with pytest.raises(ValueError) as refusal:
        waves().layout((9, 9, 1), 0, False)
    assert str(refusal.value) == "a signal of (9, 9, 1) is not the bundle's kind"


def test_two_rates_are_one_where_they_differ_by_next_to_nothing():
    of = waves()
    rates = (0.0, 7.991, 7.993, 8.0, 8.007, 8.009, 16.0)
    assert [of.resampled(x) for x in rates] == [0, 1, 0, 0, 0, 1, 1]
    of.contract.rate = 0.0
    assert not of.resampled(8.0)


def test_channels_that_come_out_of_no_tokenizer_are_refused():
    """Of one that takes two at once: four are two planes; and of planes there are no
    more than are affordable."""
    of = of_shape((8, 8, 2), types.SimpleNamespace())
    of.data.count = lambda channels, taken: -(-channels // taken)
    seen = []
    of.data.merge = lambda x, channels: seen.append(x.shape) or x.reshape(1, 1, 4)
    of.check_channels(4)
    assert seen == [(2, 1, 1, 2)]
    for channels in (3, 5, 2**17 + 1):
        with pytest.raises(ValueError) as refusal:
            of.check_channels(channels)
        assert str(refusal.value) == f"{channels} channels are not the bundle's"
        of.data.merge = lambda x, channels: x.reshape(1, 1, -1)


def picture(path):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(path)


def test_files_and_folders_of_frames_are_listed_in_order(tmp_path, capsys):
    for name in ("a10.gif", "a2.gif", "note.txt", ".a1.gif"):
        (tmp_path / name).write_text("")
    for i in range(2):
        picture(tmp_path / "clip" / f"{i}.png")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "note.txt").write_text("")
    of = lambda *words: [
        path.name
        for path in files.named_files(
            [str(tmp_path / w) for w in words], (".gif",), True
        )
    ]
    assert of(".") == ["a2.gif", "a10.gif", "clip"]
    assert "left out" in (said := capsys.readouterr().err) and "1 folder" in said
    assert of("clip") == of("c*") == ["clip"]
    assert of("a*.gif") == ["a2.gif", "a10.gif"]
    assert of("a2.gif", "a*.gif") == ["a2.gif", "a10.gif"]  # each once
    plain = files.named_files([str(tmp_path)], (".gif",))
    assert [path.name for path in plain] == ["a2.gif", "a10.gif"]
    capsys.readouterr()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "b.gif").write_text("")
    assert of("full") == ["b.gif"] and not capsys.readouterr().err
    for words, line in (
        (("note.txt",), "note.txt: the bundle's kind is read from .gif"),
        (("other",), "other holds no .gif file, and no frames"),
        (("b*.gif",), "b*.gif; write a file, or a folder of them"),
        ((), "write the files to read, or a folder of them"),
    ):
        with pytest.raises(BadInput) as refusal:
            of(*words)
        assert str(refusal.value).endswith(line)
    (tmp_path / "c[1].gif").write_text("")  # no pattern where there is such a file
    assert of("c[1].gif") == ["c[1].gif"]
    (tmp_path / "clip" / "b.gif").write_text("")
    with pytest.raises(BadInput) as refusal:
        of("clip")
    assert str(refusal.value) == (
        f"{tmp_path}/clip holds frames, which make it one clip, and b.gif; write "
        "folders of either"
    )
