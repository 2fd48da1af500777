"""What the codec's two programs hand on, count, write and say, and what they refuse."""

import dataclasses
import math
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import vqdit
from tests import toys
from train import compress, decompress
from train.codec import layout
from train.codec.coder import FIXED, POOLED, Coder
from train.codec.container import Header, pack, unpack
from train.codec.files import open_codec
from train.codec.layout import Opened
from train.codec.prior import count_codes
from train.compress import Settings
from train.errors import BadInput, Unreadable
from train.modalities import Audio, Images
from train.modalities.record import Record


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """(4, 4, 1) pictures <-> 2x2 codes of 9."""
    folder = tmp_path_factory.mktemp("codec") / "grey"
    vqdit.save(folder, toys.codec())
    return folder


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def grey(name, *shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    Path(name).parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(name)
    return Path(name)


FIGURES = {"dropped": [], "units": 40, "coder": "fixed"}
FILES = {
    "a.png": FIGURES
    | {"bytes": 1500, "score": 20.0, "payload": 9600, "fixed": 10_400, "order_0": 888},
    "b.png": FIGURES
    | {"bytes": 500, "score": 30.0, "payload": 800, "fixed": 880, "order_0": 0}
    | {"dropped": ["its alpha", "its colour"], "coder": "tuned"},
}
CODES = np.repeat([0, 1, 2, 3], 20).reshape(20, 4, 1)


@pytest.fixture
def coding(monkeypatch):
    """What a file is coded with, in place of it."""
    asked = []

    def compressed(opened, path, settings, read):
        asked.append((opened, path, settings))
        figures = FILES[path.name]
        return path.name.encode(), figures, CODES[: 10 * len(asked)]

    monkeypatch.setattr(compress, "compressed", compressed)
    return asked


def test_files_are_coded_written_and_told_of(bundle, coding, capsys):
    grey("in/a.png", 4, 4), grey("in/b.png", 9, 5)
    compress.main(["in", f"--bundle={bundle}", "--out=coded"])
    assert [(path.name, how) for _, path, how in coding] == [
        ("a.png", Settings(1, 0, False)),
        ("b.png", Settings(1, 0, False)),
    ]
    assert {opened.batch for opened, *_ in coding} == {8}  # 3 x 2 tiles at most
    assert {p.name: p.read_bytes() for p in Path("coded").iterdir()} == {
        "a.vqd": b"a.png",
        "b.vqd": b"b.png",
    }
    said = capsys.readouterr()
    # Of 120 codes 40 each are 0 and 1, 20 each 2 and 3: 80 log2(3) + 40 log2(6) = 230.
    assert said.out.splitlines() == [
        "in/a.png -> coded/a.vqd: 1,500 bytes, 300 bits per pixel, PSNR 20.00 dB; "
        "fixed codes 1,200 bytes, at fixed length 1,300, own order-0 entropy 111",
        "in/b.png -> coded/b.vqd: 500 bytes, 100 bits per pixel, PSNR 30.00 dB; "
        "tuned codes 100 bytes, at fixed length 110, own order-0 entropy 0",
        "2 files: 2,000 bytes, 200 bits per pixel, PSNR 25.00 dB (mean); codes 1,300 "
        "bytes, order-0 entropy of all files' codes together 29",
    ]
    assert said.err.splitlines()[-1] == "in/b.png: left out: its alpha; its colour"
    assert "a.png: left out" not in said.err


def test_one_file_has_no_total(bundle, coding, capsys):
    grey("a.png", 3, 3)
    compress.main(["a.png", f"--bundle={bundle}", "--out=coded"])
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert coding[0][0].batch == 1


@pytest.mark.parametrize(
    "argv, settings",
    [
        (("--overlap=3",), Settings(1, 3, False)),
        (("--books=1", "--overlap=1"), Settings(1, 1, False)),
    ],
)
def test_an_option_of_the_coding_is_a_setting_of_it(bundle, coding, argv, settings):
    grey("a.png", 9, 5)
    compress.main(["a.png", f"--bundle={bundle}", "--out=coded", *argv])
    assert coding[0][2] == settings
    # With three of four shared there are 6 x 2 tiles, with one 3 x 2.
    assert coding[0][0].batch == {3: 16, 1: 8, 0: 8}[settings.overlap]


def test_what_has_no_rate_is_not_resampled(bundle, coding):
    grey("a.png", 9, 5)
    with pytest.raises(BadInput, match="--resample: the tokenizer is of image without"):
        compress.main(["a.png", f"--bundle={bundle}", "--out=coded", "--resample"])
    assert not coding


@pytest.mark.parametrize("overlap", [-1, 4])
def test_tiles_share_less_than_themselves(bundle, coding, overlap):
    grey("a.png", 9, 5)
    with pytest.raises(BadInput) as refusal:
        compress.main(
            ["a.png", f"--bundle={bundle}", "--out=coded", f"--overlap={overlap}"]
        )
    line = f"--overlap={overlap}: write 0 to 3, less than a tile"
    assert str(refusal.value) == line and not coding


def test_a_level_and_a_word_are_handed_on(bundle, coding, monkeypatch):
    """Sounds alone have a level; --fit with a value is the other program, too."""
    grey("a.png", 4, 4)
    peaks, fitted, other = [], [], Images(size=4, channels=1, white=9)
    at_peak = lambda self, peak: peaks.append(peak) or other
    monkeypatch.setattr(Images, "at_peak", at_peak)
    monkeypatch.setattr(compress.counting, "main", fitted.append)
    compress.main(["a.png", f"--bundle={bundle}", "--out=coded", "--peak=0.5"])
    assert peaks == [0.5] and coding[0][0].data is other
    compress.main(["a.png", f"--bundle={bundle}", "--out=coded", "--force"])
    assert peaks == [0.5] and not fitted
    for word in ("--fit", "--fit=True"):
        compress.main([word, "--workdir=x"])
        assert fitted.pop() == [word, "--workdir=x"]
    assert len(coding) == 2
    for name in ("workdir", "config", "variant"):  # which --help lists
        with pytest.raises(BadInput, match=f"--{name} is of the counts: write --fit"):
            compress.main(["a.png", "--bundle=x", "--out=y", f"--{name}=z"])
    grey("b.png", 4, 4)
    compress.main(["a.png", "b.png", f"--bundle={bundle}", "--out=coded", "--missing"])
    assert [p.name for _, p, *_ in coding[2:]] == ["b.png"]
    compress.main(["a.png", f"--bundle={bundle}", "--out=coded", "--missing"])
    assert len(coding) == 3


def test_a_file_says_what_it_was_and_how_it_is_coded(bundle):
    """Its codes, 3 x 3 tiles of four, at log2 9 bits, and the tokenizer's marks; no
    prior, where there is one that does not pay."""
    opened = open_codec(bundle, batch=1)
    one = np.full((99, 2, 2, 1), 8)
    prior = count_codes([one], (9,), opened.contract.fingerprint)
    opened = dataclasses.replace(opened, prior=prior)
    path = grey("a.bmp", 8, 8)
    data, figures, codes = compress.compressed(opened, path, Settings(1, overlap=1))
    header, payload = unpack(data)
    assert codes.shape == (9, 4, 1)
    assert dataclasses.replace(header, codes=0) == Header(
        kind="image",
        suffix=".png",
        bundle=bytes.fromhex(opened.contract.fingerprint[:16]),
        shape=(8, 8, 1),
        books=1,
        coder=header.coder,
        overlap=1,
        extra=header.extra,
    )
    share = np.bincount(codes.reshape(-1)) / 36
    entropy = -36 * sum(p * math.log2(p) for p in share if p)
    assert figures["order_0"] == pytest.approx(entropy)
    assert figures["fixed"] == pytest.approx(36 * math.log2(9))
    assert figures["payload"] == 8 * len(payload)
    assert figures["coder"] == header.coder.name
    assert (figures["bytes"], figures["units"]) == (len(data), 64)
    assert figures["dropped"] == []
    decoded = opened.rebuild(header, codes)
    error = np.square(decoded[..., 0].astype(float) - np.asarray(Image.open(path)))
    assert figures["score"] == pytest.approx(10 * np.log10(255**2 / error.mean()))
    Path("a.vqd").write_bytes(data)
    decompress.main(["a.vqd", f"--bundle={bundle}", "--out=out"])
    np.testing.assert_array_equal(Image.open("out/a.png"), decoded[..., 0])


@pytest.mark.parametrize(
    "rate, own, words",
    [
        (16_000.0, 8000.0, ["all but 8000 of its 16000 samples a second"]),
        (4000.0, 8000.0, []),  # more than it has
        (8001.0, 8000.0, []),
        (12.5, 2.25, ["all but 2.25 of its 12.5 samples a second"]),
    ],
)
def test_a_lower_rate_leaves_samples_out(rate, own, words):
    data = types.SimpleNamespace(dropped=lambda path, signal: iter(["its tags"]))
    codec = types.SimpleNamespace(contract=types.SimpleNamespace(rate=own))
    record = Record(np.zeros((9, 1)), rate)
    found = compress.dropped(Opened(codec, None, data), Path("a"), record)
    assert found == ["its tags", *words]


def heard(rate=8000.0):
    """A codec of sounds of which only the contract is asked."""
    contract = types.SimpleNamespace(rate=rate, shape=(8, 1), kind="audio")
    codec = types.SimpleNamespace(contract=contract)
    return Opened(codec, None, Audio.of(1, rate, dc=False, peak=None, loudness=None))


def test_what_is_measured_is_the_file_and_what_is_coded_is_at_the_bundles_rate(
    monkeypatch,
):
    soundfile.write("a.wav", np.linspace(-0.5, 0.5, 40), 16_000, subtype="FLOAT")
    signal, planes, _ = compress.read_file(
        heard(), Path("a.wav"), Settings(1, resample=True)
    )
    assert signal.values.shape == (40, 1) and signal.rate == 16_000
    assert planes.shape == (1, 20, 1)
    monkeypatch.setattr(Audio, "read", lambda self, path: Record(np.zeros((40, 1))))
    signal, planes, _ = compress.read_file(heard(), Path("a.wav"), Settings(1))
    assert signal.rate == 8000 and planes.shape == (1, 40, 1)  # which the file lacks
    monkeypatch.setattr(Audio, "read", lambda self, path: Record(np.zeros(40)))
    with pytest.raises(BadInput) as refusal:
        compress.read_file(heard(), Path("a.wav"), Settings(1))
    assert str(refusal.value) == "a.wav: it is (40,), and the bundle takes (8, 1)"


def test_alpha_and_colour_are_both_left_out_of_grey(bundle):
    opened, path = open_codec(bundle), grey("a.png", 4, 4, 4)
    signal, planes, _ = compress.read_file(opened, path, Settings(1))
    assert signal.values.shape == (4, 4, 1) and planes.shape == (1, 4, 4, 1)
    found = compress.dropped(opened, path, signal)
    assert found == ["its alpha, laid on white", "its colour"]
    half = grey("b.png", 4, 4)
    pixels = np.repeat(np.asarray(Image.open(half))[..., None], 3, axis=-1)
    pixels[0, 0] = 9, 99, 200  # one pixel of colour is enough
    Image.fromarray(pixels).save(half)
    signal, *_ = compress.read_file(opened, half, Settings(1))
    assert compress.dropped(opened, half, signal) == ["its colour"]


@pytest.mark.parametrize("error", [Unreadable, BadInput, OSError])
def test_a_file_that_cannot_be_read_is_named(monkeypatch, error):
    def read(self, path):
        raise error("why not")

    monkeypatch.setattr(Audio, "read", read)
    with pytest.raises(BadInput, match="^b.wav: why not$"):
        compress.read_file(heard(), Path("b.wav"), Settings(1))
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(None, path))
    if error is not Unreadable:
        with pytest.raises(BadInput, match="^b.vqd: why not$"):
            decompress.read_codes(heard(), Path("b.vqd"))


def test_books_are_left_out_where_the_rest_decodes(monkeypatch):
    opened = types.SimpleNamespace(
        prefixes=types.SimpleNamespace(count=3, word="books"), codec="the codec"
    )
    decodes = []
    monkeypatch.setattr(
        compress, "decodes_prefixes", lambda codec: decodes.append(codec) or False
    )
    assert compress.check_books(opened, None) == compress.check_books(opened, 3) == 3
    with pytest.raises(BadInput) as refusal:
        compress.check_books(opened, 0)
    line = "--books=0: the tokenizer has 3 books; write 1 to 3"
    assert str(refusal.value) == line and not decodes
    with pytest.raises(BadInput) as refusal:
        compress.check_books(opened, 1)
    assert str(refusal.value) == (
        "--books=1: the tokenizer's 3 books are not residual, all are needed; leave "
        "--books out"
    )
    assert decodes == ["the codec"]
    monkeypatch.setattr(compress, "decodes_prefixes", lambda codec: True)
    assert [compress.check_books(opened, n) for n in (1, 2)] == [1, 2]


@pytest.fixture
def coded(bundle):
    """(the opened bundle, a file's header, its payload)."""
    opened = open_codec(bundle, batch=1)
    codes = np.arange(4, dtype=np.int32).reshape(1, 4, 1)
    header = Header(
        kind="image",
        suffix=".png",
        bundle=bytes.fromhex(opened.contract.fingerprint[:16]),
        shape=(4, 4, 1),
        books=1,
        coder=Coder(FIXED),
        codes=decompress.checksum_of_codes(codes),
    )
    payload = opened.prefixes.alphabet(None, 1).encode(codes, header.coder)
    return opened, header, payload


def refused(opened, header, payload, most=math.inf):
    with pytest.raises(BadInput) as refusal:
        decompress._codes(opened, header, payload, most)
    return str(refusal.value)


@pytest.mark.parametrize(
    "change, why",
    [
        ({"kind": "audio"}, "kind or books are not the bundle's"),
        ({"books": 2}, "kind or books are not the bundle's"),
        ({"shape": (4, 1)}, "a signal of (4, 1) is not the bundle's kind"),
        ({"whole": True}, "a signal of (4, 4, 1) is not the bundle's kind"),
        ({"shape": (4, 4, 7)}, "7 channels are not the bundle's"),
        ({"codes": 1}, "its codes are not those that were written"),
    ],
)
def test_a_header_of_another_tokenizer_is_told(coded, change, why):
    opened, header, payload = coded
    other = dataclasses.replace(header, **change)
    line = f"it cannot be decoded: {why}; compress it again"
    assert refused(opened, other, payload) == line


def test_codes_are_counted_before_they_are_decoded(coded):
    opened, header, payload = coded
    found = decompress._codes(opened, header, payload, 4)
    assert found.reshape(-1).tolist() == [0, 1, 2, 3]
    many = dataclasses.replace(header, shape=(4000, 4000, 1))
    assert refused(opened, many, payload, 3_999_999) == (
        "it cannot be decoded: 4,000,000 codes are too many for it; compress it again"
    )


def test_the_bundle_and_the_prior_that_are_needed_are_named(coded):
    opened, header, payload = coded
    mine = header.bundle.hex()
    other = dataclasses.replace(header, bundle=bytes(range(8)))
    assert refused(opened, other, payload) == (
        f"it was made with bundle 0001020304050607, --bundle is {mine}; write the one "
        "it was made with"
    )
    prior = count_codes(
        [np.zeros((2, 2, 2, 1), int)], (9,), opened.contract.fingerprint
    )
    under = dataclasses.replace(header, coder=Coder(POOLED), prior=b"\xab\xcd\x01\x02")
    for held, have in ((None, "none"), (prior, prior.name.hex())):
        again = dataclasses.replace(opened, prior=held)
        assert refused(again, under, payload) == (
            f"it was coded under prior.npz abcd0102 and the bundle has {have}; put the "
            "one that it was coded under into the bundle"
        )
    own = dataclasses.replace(under, prior=prior.name)
    again = dataclasses.replace(opened, prior=prior)
    assert "prior" not in refused(again, own, b"")


def test_a_file_far_smaller_than_what_it_holds_takes_a_word(coded, monkeypatch):
    opened, header, payload = coded
    Path("a.vqd").write_bytes(pack(header, payload))
    seen = []
    monkeypatch.setattr(
        decompress, "_codes", lambda opened, header, payload, most: seen.append(most)
    )
    size = Path("a.vqd").stat().st_size
    decompress.read_codes(opened, Path("a.vqd"))
    decompress.read_codes(opened, Path("a.vqd"), large=True)
    assert seen == [2**25 + 2**15 * size, math.inf]


def test_what_does_not_become_what_the_file_says_is_told(coded, monkeypatch):
    opened, header, _ = coded
    codes = np.zeros((1, 4, 1), np.int32)
    for values, why in (
        (np.zeros((4, 3, 1), np.uint8), "it is (4, 3, 1), and says (4, 4, 1)"),
        (None, "'NoneType' object has no attribute 'shape'"),
    ):
        monkeypatch.setattr(Opened, "rebuild", lambda self, *of, found=values: found)
        with pytest.raises(BadInput) as refusal:
            decompress.signal_of(opened, Path("a.vqd"), header, codes)
        line = f"a.vqd: it cannot be decoded ({why}); compress it again"
        assert str(refusal.value) == line


def test_files_are_decoded_written_and_told_of(bundle, coded, monkeypatch, capsys):
    """Each to the kind that it was, the batch being that of the largest."""
    opened, header, _ = coded
    headers = {
        "a.vqd": header,
        "b.vqd": dataclasses.replace(header, shape=(9, 5, 1), suffix=".npy"),
    }
    read, made = [], []

    def codes_of(opened, path, large=False):
        read.append((path.name, large, opened.batch))
        return headers[path.name], f"codes of {path.name}"

    def signal_of(opened, path, header, codes):
        made.append((path.name, header, codes, opened.batch))
        return path.name.encode()

    monkeypatch.setattr(decompress, "read_codes", codes_of)
    monkeypatch.setattr(decompress, "signal_of", signal_of)
    Path("coded").mkdir()
    for name in headers:
        Path("coded", name).write_bytes(b"")
    how = ["coded", f"--bundle={bundle}", "--out=out"]
    decompress.main(how)
    assert read == [(name, False, layout.BATCH) for name in headers]
    assert made == [(n, h, f"codes of {n}", 8) for n, h in headers.items()]
    assert {p.name: p.read_bytes() for p in Path("out").iterdir()} == {
        "a.png": b"a.vqd",
        "b.npy": b"b.vqd",
    }
    said = capsys.readouterr().out.splitlines()
    assert said == ["coded/a.vqd -> out/a.png", "coded/b.vqd -> out/b.npy"]
    with pytest.raises(BadInput, match="a.png is there; write --force to replace it"):
        decompress.main([*how, "--large"])
    assert len(made) == 2 and read[-1] == ("b.vqd", True, layout.BATCH)
    decompress.main([*how, "--force"])
    assert len(made) == 4
    with pytest.raises(BadInput, match="replaces what --missing leaves; write either"):
        decompress.main([*how, "--force", "--missing"])
    Path("out", "b.npy").unlink()  # as where it was interrupted
    Path("out", "a.png").write_bytes(b"is whole")
    decompress.main([*how, "--missing"])
    assert made[4:] == [("b.vqd", headers["b.vqd"], "codes of b.vqd", 8)]
    assert Path("out", "a.png").read_bytes() == b"is whole"
    assert "1 of 2 files are there, and stay as they are" in capsys.readouterr().err


@pytest.mark.parametrize("program", [compress, decompress])
def test_without_a_tokenizer_the_flag_is_named(program):
    grey("a.png", 4, 4)
    line = "^write --bundle=..., the tokenizer"
    with pytest.raises(BadInput, match=line):
        program.main(["a.png", "--out=coded"])
