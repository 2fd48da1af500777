"""Files of every kind and size to .vqd and back, and every refusal in one line."""

import csv
import dataclasses
import io
import re
import struct
import sys
import types
import zlib
from pathlib import Path

import av
import jax.numpy as jnp
import nibabel
import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest
import soundfile
from PIL import Image, ImageCms

import vqdit
from tests import toys
from tests.toys import drawn
from tests.train.experiments import TOKENIZER
from tests.train.fresh import fresh
from train import compress, decompress
from train.codec import layout
from train.codec import prior as priors
from train.codec.container import unpack
from train.codec.files import named_files, open_codec, targets
from train.codec.prefixes import prefixes
from train.compress import Settings
from train.config.workdir import open_workdir
from train.errors import BadInput, Unreadable, run
from train.modalities import (
    Audio,
    AudioCleaning,
    Cleaning,
    Images,
    Ranges,
    Series,
    Video,
    Volumes,
)
from train.modalities.kinds import modality_of
from train.modalities.record import Record
from train.pipeline import whole
from vqdit import FSQ, Codec, ConvDecoder, ConvEncoder, Tokenizer, VectorQuantizer
from vqdit.quantizers import MultiScaleQuantizer
from vqdit.quantizers.residual_fsq import ResidualFSQ
from vqdit.signal import to_uint8
from vqdit.signal.tiles import Tiling
from vqdit.tokenizer import WaveDecoder, WaveEncoder
from vqdit.trained.contract import contract_of

SHAPES = {
    "image": (4, 4, 3),
    "audio": (8, 1),
    "video": (2, 4, 4, 3),
    "series": (8, 2),
    "volume": (2, 4, 4, 1),
    "range": (4, 8, 1),
}
RATES = {"audio": 8000.0, "video": 10.0, "series": 50.0}
UNITS = {"series": ((3.0, -2.0), (10.0, 0.5)), "volume": ((100.0,), (50.0,))}
UNITS |= {"range": ((40.0,), (40.0,))}
PREPARED = {"range": (("far", 80.0),)}


def toy(kind, shape=None, **fields) -> Codec:
    """A tokenizer of factor 2 with two channels of latents and weights drawn; of
    another shape, and other fields of its contract, where they are given."""
    shape = shape or SHAPES[kind]
    axes = len(shape) - 1
    small = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}
    if kind == "range":
        small["wrap"] = (False, True)
    quantizer = ResidualFSQ((3, 3), 3) if kind == "image" else FSQ((3, 3))
    module = Tokenizer(
        ConvEncoder(**small, out=4, dims=axes),
        ConvDecoder(**small, out=shape[-1], dims=axes),
        quantizer,
    )
    variables = drawn(module, jnp.zeros((1, *shape)))
    offset, scale = (
        np.resize(unit, shape[-1]) for unit in UNITS.get(kind, ((0,), (1,)))
    )
    signal = {"kind": kind, "shape": shape, "rate": RATES.get(kind, 0.0)}
    if kind in UNITS:
        signal |= {"offset": offset, "scale": scale}
    signal |= {"preparation": PREPARED.get(kind, ())} | fields
    grid = tuple(side // 2 for side in shape[:-1])
    moments = ((0.0, 0.0), (1.0, 1.0))
    return Codec(
        module, variables, contract_of(module, signal, grid, *moments, variables)
    )


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """kind -> the folder of its toy bundle."""
    folder = tmp_path_factory.mktemp("bundles")
    for kind in SHAPES:
        vqdit.save(folder / kind, toy(kind))
    vqdit.trained.bundle.save(folder / "grey", toys.codec())
    return folder


@pytest.fixture(autouse=True)
def one_tile_at_a_time(monkeypatch):
    """One compilation a bundle."""
    monkeypatch.setattr(layout, "BATCH", 1)


def there_and_back(bundle, paths, tmp_path, *options):
    """The files that come back, in the order of their names."""
    coded, out = tmp_path / "coded", tmp_path / "out"
    compress.main([*map(str, paths), f"--bundle={bundle}", f"--out={coded}", *options])
    decompress.main([str(coded), f"--bundle={bundle}", f"--out={out}"])
    return sorted(out.iterdir())


@pytest.mark.parametrize("options", [(), ("--overlap=0",), ("--overlap=1",)])
def test_that_seams_of_tiles_may_show_is_said(options, bundles, tmp_path, capsys):
    paths = [picture(tmp_path / "a.png", 4, 4), picture(tmp_path / "b.png", 4, 9)]
    run = lambda *paths: compress.main(
        [*map(str, paths), f"--bundle={bundles / 'grey'}", f"--out={tmp_path / 'c'}"]
        + [*options, "--force"]
    )
    run(paths[0])
    assert "seams" not in capsys.readouterr().err
    run(*paths)
    said = "b.png is cut into 3 tiles, whose seams may show; --overlap=1 blends"
    assert (said in capsys.readouterr().err) == (not options)


@pytest.mark.parametrize("kept, reads", [(0, "abab"), (100, "abb"), (10**6, "ab")])
def test_what_is_read_to_be_checked_is_not_read_again(
    kept, reads, bundles, tmp_path, monkeypatch
):
    """As far as there is room for it; the files are the same."""
    paths = [picture(tmp_path / "a.png", 4, 4), picture(tmp_path / "b.png", 40, 4)]
    found, real = [], compress.read_file
    noted = lambda opened, path, how: found.append(path.stem) or real(opened, path, how)
    monkeypatch.setattr(compress, "read_file", noted)
    monkeypatch.setattr(compress, "KEPT", kept)
    out = tmp_path / "coded"
    compress.main([*map(str, paths), f"--bundle={bundles / 'grey'}", f"--out={out}"])
    assert "".join(found) == reads
    opened = open_codec(bundles / "grey")
    for path in paths:
        data, *_ = compress.compressed(opened, path, Settings(1))
        assert data == (out / f"{path.stem}.vqd").read_bytes()


def pixels(path):
    return np.asarray(Image.open(path))


def picture(path, *shape, seed=0):
    source = np.random.default_rng(seed)
    Image.fromarray(source.integers(0, 256, shape).astype(np.uint8)).save(path)
    return path


@pytest.mark.slow
def test_pictures_of_any_size(bundles, tmp_path, capsys):
    sizes = {
        "a": (1, 1, 3),
        "b": (4, 4, 3),
        "c": (9, 5, 3),
        "d": (7, 2),
        "e": (2, 9, 4),
    }
    paths = [picture(tmp_path / f"{n}.png", *s) for n, s in sizes.items()]
    paths.append(picture(tmp_path / "f.jpg", 5, 5, 3))
    found = there_and_back(bundles / "image", paths, tmp_path)
    assert [p.name for p in found] == [f"{n}.png" for n in "abcdef"]
    for path, shape in zip(found, [*sizes.values(), (5, 5, 3)], strict=True):
        # Alpha is laid on white; grey comes back grey.
        assert pixels(path).shape == ((*shape[:2], 3) if len(shape) == 3 else shape)
    # A picture of the bundle's own size is what the tokenizer makes of it.
    codec = vqdit.load(bundles / "image")
    x = codec.from_raw(pixels(paths[1])[None])
    expected = to_uint8(codec.decode(codec.encode(x).codes))[0]
    np.testing.assert_array_equal(pixels(found[1]), expected)
    out = capsys.readouterr().out
    assert "bits per pixel, PSNR" in out and "6 files: " in out


def clip_of_many_streams(path):
    """10 bits of colour, a sound track and a track of subtitles."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 6, 8, "yuv420p10le"
        sound = out.add_stream("aac", rate=8000)
        for _ in range(3):
            frame = np.zeros((6, 8, 3), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        wave = av.AudioFrame.from_ndarray(np.zeros((1, 1024), "f4"), "fltp", "mono")
        wave.rate = 8000
        out.mux(sound.encode(wave))
        out.mux(sound.encode(None))
        out.mux(stream.encode(None))


def files_that_hold_more(folder):
    """Kind of bundle -> (a file, what of it is not coded)."""
    rgba = Image.fromarray(np.full((5, 5, 4), 100, np.uint8))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgba.save(folder / "a.png", icc_profile=profile)
    yield "image", "a.png", ["its alpha, laid on white", "its colour profile (ICC)"]
    Image.fromarray(np.full((5, 5), 65535, np.uint16)).save(folder / "b.png")
    yield "image", "b.png", ["all but 8 of its 16 bits"]
    frames = [Image.new("RGB", (5, 5), (i, 0, 0)) for i in (9, 99)]
    frames[0].save(folder / "c.tif", save_all=True, append_images=frames[1:])
    yield "image", "c.tif", ["all frames but the first"]
    frames[1].save(folder / "d.png")
    yield "grey", "d.png", ["its colour"]
    frames[1].convert("CMYK").save(folder / "e.tif")
    yield "image", "e.tif", ["CMYK, now RGB"]
    wave = np.linspace(-0.5, 0.5, 40)
    with soundfile.SoundFile(folder / "a.flac", "w", 16000, 1, "PCM_24") as file:
        file.artist = "nobody"
        file.write(wave)
    said = ["what 16 bits do not hold of its PCM_24", "its tags (artist)"]
    yield "audio", "a.flac", [*said, "all but 8000 of its 16000 samples a second"]
    clip_of_many_streams(folder / "a.mp4")
    yield "video", "a.mp4", ["1 sound track", "all but 8 of its 10 bits"]
    (folder / "clip").mkdir()
    for i in range(2):
        rgba.resize((8, 6)).save(folder / "clip" / f"{i}.png")
    yield "video", "clip", ["its alpha, laid on white (frames: 2)"]
    scan = np.ones((4, 4, 3), np.float32)
    scan[0, 0, 0] = np.nan
    nibabel.save(nibabel.Nifti1Image(scan, np.eye(4)), folder / "a.nii")
    header = "its header's description; it comes back turned (RAS), in float32"
    yield "volume", "a.nii", [header, "2.08% of its values, which are not finite"]
    (folder / "a.csv").write_text("t,a,b\n0,1,2\n0.02,,3\n0.04,4,5\n0.06,2,1\n")
    yield "series", "a.csv", ["12.50% of its values, gaps that are filled"]


def left_out(bundle, path) -> list[str]:
    opened = open_codec(bundle)
    settings = Settings(1, resample=True)
    return compress.dropped(opened, path, compress.read_file(opened, path, settings)[0])


def test_what_is_not_coded_is_known(bundles, tmp_path):
    for kind, name, words in files_that_hold_more(tmp_path):
        found = "; ".join(left_out(bundles / kind, tmp_path / name))
        assert all(word in found for word in words), (name, found)


def test_of_what_is_coded_whole_nothing_is_left_out(bundles, tmp_path):
    Image.fromarray(np.full((5, 5, 3), 100, np.uint8)).save(tmp_path / "a.png")
    Image.new("RGB", (5, 5), (9, 9, 9)).save(tmp_path / "grey.png")
    soundfile.write(tmp_path / "b.wav", np.linspace(-0.5, 0.5, 40), 8000)
    soundfile.write(tmp_path / "loud.wav", np.linspace(-3, 3, 40), 8000, "FLOAT")
    np.save(tmp_path / "c.npy", np.ones((2, 4, 4), np.float32))
    (tmp_path / "d.csv").write_text("t,a,b\n0,1,2\n0.02,3,3\n0.04,4,5\n")
    kinds = {"a.png": "image", "grey.png": "grey", "b.wav": "audio", "c.npy": "volume"}
    kinds |= {"loud.wav": "audio", "d.csv": "series"}
    for name, kind in kinds.items():
        assert left_out(bundles / kind, tmp_path / name) == [], name


def test_what_a_sweep_a_window_and_other_columns_leave_out_is_known(tmp_path):
    points = np.array([[9, 0, 0, 1], [9, 0, 0, 1], [9, 0, 9, 1]], "<f4")
    points.tofile(tmp_path / "a.bin")
    np.save(tmp_path / "b.npy", np.arange(8, dtype=np.float32).reshape(2, 2, 2))
    (tmp_path / "c.csv").write_text("t,a,b\n0,1,2\n0.02,3,3\n0.04,4,5\n")
    found = []
    for data, name in (
        (Ranges(name="folder", rows=4, azimuth=8), "a.bin"),
        (Volumes(name="folder", window=(1.0, 9.0)), "b.npy"),
        (Series(name="folder", channels=1, columns=("b",)), "c.csv"),
    ):
        found += data.dropped(tmp_path / name, data.read(tmp_path / name))
    assert [re.sub(r"\d[\d.]*", "N", words) for words in found] == [
        "its list of points; it comes back as an image of ranges",
        "N% of the points lie beyond data.elevation, and are left out",
        "N% of the points are behind another one in their cell, and are left out",
        "N% of its values, beyond N to N",
        "its columns a",
    ]


def test_what_is_not_coded_is_said(bundles, tmp_path, capsys):
    Image.fromarray(np.full((4, 4, 4), 100, np.uint8)).save(tmp_path / "a.png")
    argv = [str(tmp_path / "a.png"), f"--bundle={bundles / 'image'}"]
    compress.main([*argv, f"--out={tmp_path / 'coded'}"])
    line = "a.png: left out: its alpha, laid on white\n"
    assert line in capsys.readouterr().err


def test_the_codes_in_a_file_are_the_tokenizers(bundles, tmp_path):
    path = picture(tmp_path / "a.png", 4, 4, 3)
    opened = open_codec(bundles / "image", batch=1)
    data, figures, codes = compress.compressed(opened, path, Settings(3))
    (tmp_path / "a.vqd").write_bytes(data)
    header, back = decompress.read_codes(opened, tmp_path / "a.vqd")
    x = opened.codec.from_raw(pixels(path)[None])
    mine = np.asarray(opened.codec.encode(x).codes).reshape(1, 4, 3)
    np.testing.assert_array_equal(back, mine)
    np.testing.assert_array_equal(codes, mine)
    assert (header.shape, header.books) == ((4, 4, 3), 3)
    assert figures["bytes"] == len(data) and figures["units"] == 16
    decoded = opened.rebuild(header, back).astype(float)
    error = np.square(decoded - pixels(path)).mean()
    np.testing.assert_allclose(figures["score"], 10 * np.log10(255**2 / error))


def test_fewer_books_make_a_smaller_file_and_decode(bundles, tmp_path):
    paths = [picture(tmp_path / "a.png", 24, 24, 3)]
    opened = open_codec(bundles / "image", batch=1)
    whole, _, all_codes = compress.compressed(opened, paths[0], Settings(3))
    sizes = []
    for books in (1, 2, 3):
        data, _, codes = compress.compressed(opened, paths[0], Settings(books))
        np.testing.assert_array_equal(codes, all_codes[..., :books])
        sizes.append(len(data))
    assert sizes[0] < sizes[1] < sizes[2] == len(whole)
    (found,) = there_and_back(bundles / "image", paths, tmp_path, "--books=1")
    first = all_codes[:1, :, :1].reshape(1, 2, 2, 1)
    expected = to_uint8(opened.codec.decode(first))[0]
    np.testing.assert_array_equal(pixels(found)[:4, :4], expected)
    for asked, words in (
        (0, "write 1 to 3"),
        (4, "the tokenizer has 3 books; write 1 to 3"),
    ):
        with pytest.raises(BadInput, match=f"--books={asked}: .*{words}"):
            compress.check_books(opened, asked)


def multi_scale() -> Codec:
    """(8, 8, 1) pictures <-> codes at scales 1, 2 and 4."""
    small = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}
    module = Tokenizer(
        ConvEncoder(**small, out=4),
        ConvDecoder(**small, out=1),
        MultiScaleQuantizer(VectorQuantizer(7, 2), (1, 2, 4), phis=2),
    )
    variables = drawn(module, jnp.zeros((1, 8, 8, 1)))
    signal = {"kind": "image", "shape": (8, 8, 1), "code_grid": (21,)}
    contract = contract_of(module, signal, (4, 4), (0, 0), (1, 1), variables)
    return Codec(module, variables, contract)


@pytest.mark.slow
@pytest.mark.parametrize("prior", [False, True])
def test_the_first_scales_are_what_the_quantizer_makes_of_them(tmp_path, prior):
    codec, folder = multi_scale(), tmp_path / "scales"
    vqdit.trained.bundle.save(folder, codec)
    if prior:
        # Every scale has codes of its own, so that tables of places pay.
        source = np.random.default_rng(0)
        training = source.integers(0, 7, (2000, 21, 1)) * (np.arange(21) % 3)[:, None]
        found = priors.count_codes([training % 7], (7,), codec.contract.fingerprint)
        priors.write_prior(folder, found)
    path = picture(tmp_path / "a.png", 8, 16)
    opened = open_codec(folder, batch=1)
    assert (opened.prior is not None) == prior
    x = codec.from_raw(pixels(path).reshape(8, 2, 8).swapaxes(0, 1)[..., None])
    codes = np.asarray(codec.encode(x).codes)
    sizes = []
    for scales, end in ((1, 1), (2, 5), (3, 21)):
        data, _, kept = compress.compressed(opened, path, Settings(scales))
        np.testing.assert_array_equal(kept, codes[:, :end])
        (tmp_path / "a.vqd").write_bytes(data)
        header, back = decompress.read_codes(opened, tmp_path / "a.vqd")
        np.testing.assert_array_equal(back, kept)
        sizes.append(len(data))
        # The quantizer's own decoding of the prefix, and the decoder after it.
        tokenizer, variables = codec.module, codec.variables
        q = tokenizer.apply(variables, jnp.asarray(kept), method="decode_codes")
        expected = to_uint8(tokenizer.apply(variables, q, method="decode"))
        expected = np.concatenate(list(np.asarray(expected)[..., 0]), axis=1)
        mine = opened.rebuild(header, back)[..., 0].astype(int)
        np.testing.assert_allclose(mine, expected, atol=1)  # jitted, and not
    assert sizes[0] < sizes[1] < sizes[2]
    assert compress.check_books(opened, 2) == 2
    with pytest.raises(BadInput, match="--books=4: .* has 3 scales; write 1 to 3"):
        compress.check_books(opened, 4)


def test_a_prior_is_cut_to_the_places_that_are_kept():
    codec = multi_scale()
    training = np.arange(21)[None, :, None].repeat(50, 0) % 7
    prior = priors.count_codes([training], (7,), codec.contract.fingerprint)
    alphabet = prefixes(codec).alphabet(prior, 2)
    cut = alphabet.prior
    assert prior.counts[0].shape == (21, 7) and cut.counts[0].shape == (5, 7)
    # The same for each file, so that its tables are computed once.
    assert prefixes(codec).alphabet(prior, 2).prior is cut
    assert prefixes(codec).alphabet(prior, 1).prior is not cut
    codes = training[:3, :5]
    coder = alphabet.best_coder(codes)
    assert coder.name == "placed"
    payload = alphabet.encode(codes, coder)
    np.testing.assert_array_equal(alphabet.decode(payload, 3, 5, coder), codes)


def test_colour_through_a_grey_tokenizer(bundles, tmp_path):
    path = picture(tmp_path / "a.png", 4, 4, 3)
    (found,) = there_and_back(bundles / "grey", [path], tmp_path)
    codec = vqdit.load(bundles / "grey")
    grey = np.asarray(Image.open(path).convert("L"))[None, ..., None]
    expected = to_uint8(codec.decode(codec.encode(codec.from_raw(grey)).codes))
    np.testing.assert_array_equal(pixels(found), expected[0, ..., 0])


@pytest.mark.slow
def test_overlap_is_kept_and_blended(bundles, tmp_path):
    path = picture(tmp_path / "a.png", 11, 10, 3)
    opened = open_codec(bundles / "image", batch=4)
    plain = compress.compressed(opened, path, Settings(3))[2]
    data, _, codes = compress.compressed(opened, path, Settings(3, overlap=2))
    assert len(codes) == 5 * 4 > len(plain) == 3 * 3
    header, _ = unpack(data)
    assert header.overlap == 2
    (found,) = there_and_back(bundles / "image", [path], tmp_path, "--overlap=2")
    assert pixels(found).shape == (11, 10, 3)


def test_the_training_set_is_counted_once(tmp_path, capsys):
    small = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}
    module = Tokenizer(
        ConvEncoder(**small, out=4), ConvDecoder(**small, out=1), FSQ((5, 3))
    )
    variables = drawn(module, jnp.zeros((1, 8, 8, 1)))
    signal = {"kind": "image", "shape": (8, 8, 1)}
    contract = contract_of(module, signal, (4, 4), (0, 0), (1, 1), variables)
    codec = Codec(module, variables, contract)
    workdir = open_workdir(tmp_path / "run", TOKENIZER)
    vqdit.trained.bundle.save(workdir / "bundle", codec)
    compress.main(["--fit", f"--workdir={workdir}"])
    assert (workdir / "bundle" / priors.FILE).exists()
    found = open_codec(workdir).prior
    x = codec.from_raw(whole(TOKENIZER.data, train=True)["x"])
    codes = np.asarray(codec.encode(x).codes)
    np.testing.assert_array_equal(
        found.counts[0].sum(0), np.bincount(codes.reshape(-1), minlength=15)
    )
    assert len(found.counts[0]) == 16  # digits have a background: places differ
    again = ["--fit", f"--workdir={workdir}"]
    assert "prior.npz is there, and files coded under it" in refused(
        compress, again, capsys
    )
    compress.main([*again, "--force"])
    line = refused(compress, [*again, "--force", "--config.data.size=9"], capsys)
    assert "the tokenizer takes image (8, 8, 1), the data gives image (9, 9" in line


def test_sound(bundles, tmp_path, capsys):
    source = np.random.default_rng(0)
    lengths = {"a": (1, 1), "b": (8, 1), "c": (21, 2)}
    paths = []
    for name, shape in lengths.items():
        paths.append(tmp_path / f"{name}.wav")
        soundfile.write(paths[-1], source.uniform(-0.5, 0.5, shape), 8000)
    paths.append(tmp_path / "d.flac")
    soundfile.write(paths[-1], np.zeros((30, 1)), 8000)
    found = there_and_back(bundles / "audio", paths, tmp_path, "--peak=0")
    assert [p.name for p in found] == ["a.wav", "b.wav", "c.wav", "d.flac"]
    for path, shape in zip(found, [*lengths.values(), (30, 1)], strict=True):
        values, rate = soundfile.read(path, always_2d=True)
        assert (values.shape, rate) == (shape, 8000)
    codec = vqdit.load(bundles / "audio")
    for channel in (0, 1):
        x = soundfile.read(paths[2], dtype="float32")[0][None, :8, channel, None]
        expected = np.asarray(codec.decode(codec.encode(x).codes))[0, :, 0]
        mine = soundfile.read(found[2])[0][:8, channel]
        np.testing.assert_allclose(mine, expected, atol=2**-15)
    assert "kbps, SI-SDR" in capsys.readouterr().out


@pytest.mark.parametrize(
    "encoder, decoder, bounded",
    [((1, 1), (2, 0), True), ((1, 1), None, False), (None, (0, 0), False)],
)
def test_a_signal_passes_whole_where_both_ends_see_a_bounded_stretch(
    encoder, decoder, bounded
):
    ends = {"encoder": encoder, "decoder": decoder}
    ends = {n: types.SimpleNamespace(context=context) for n, context in ends.items()}
    codec = types.SimpleNamespace(
        module=types.SimpleNamespace(front=None, **ends),
        contract=types.SimpleNamespace(shape=(64, 1), grid=(16,), code_grid=(16,)),
    )
    assert layout.Opened(codec, None, None).whole is bounded


@pytest.mark.parametrize("length", [pytest.param(1, marks=pytest.mark.slow), 99])
def test_waveforms_pass_whole(tmp_path, length):
    """No seams, and no more codes than the length asks for."""
    short = {"channels": 4, "strides": (2, 2), "dilations": (1,), "kernel": 3}
    module = Tokenizer(
        WaveEncoder(**short, out=4),
        WaveDecoder(**short, out=1),
        FSQ((5, 3)),
    )
    variables = drawn(module, jnp.zeros((1, 32, 1)))
    signal = {"kind": "audio", "shape": (32, 1), "rate": 8000.0}
    contract = contract_of(module, signal, (8,), (0, 0), (1, 1), variables)
    vqdit.trained.bundle.save(tmp_path / "wave", Codec(module, variables, contract))
    opened = open_codec(tmp_path / "wave")
    opened = dataclasses.replace(opened, data=opened.data.at_peak(0))
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (length, 2))
    soundfile.write(tmp_path / "a.wav", wave, 8000, subtype="FLOAT")
    data, _, codes = compress.compressed(opened, tmp_path / "a.wav", Settings(1))
    header, _ = unpack(data)
    sites = -(-length // 4)
    assert header.whole and codes.shape == (2, sites, 1)
    # As one pass over the whole signal, filled up with silence, would code it.
    x = np.zeros((2, 4 * (-(-sites // 2) * 2), 1), np.float32)
    x[:, :length, 0] = wave.T
    encode = lambda m, x: m.quantize(m.encode(x)).codes
    expected = module.apply(variables, jnp.asarray(x), method=encode)
    np.testing.assert_array_equal(codes, expected[:, :sites])
    found = there_and_back(
        tmp_path / "wave", [tmp_path / "a.wav"], tmp_path, "--peak=0"
    )
    back = soundfile.read(found[0], always_2d=True)[0]
    assert back.shape == wave.shape
    decoded = opened.rebuild(header, codes)
    np.testing.assert_allclose(back, decoded.clip(-1, 1), atol=2**-15)
    with pytest.raises(BadInput, match="--overlap is for tiles"):
        compress.main(
            [
                str(tmp_path / "a.wav"),
                f"--bundle={tmp_path / 'wave'}",
                f"--out={tmp_path / 'more'}",
                "--overlap=2",
            ]
        )


def test_quiet_sound_is_brought_to_a_level_and_back(bundles, tmp_path):
    opened = open_codec(bundles / "audio", batch=1)  # older than what bundles say
    wave = np.random.default_rng(0).uniform(-1, 1, (8, 1)).astype(np.float32)
    found = {}
    for name, gain in (("loud", 0.9 / np.abs(wave).max()), ("quiet", 0.002)):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, wave * gain, 8000, subtype="FLOAT")
        data, figures, codes = compress.compressed(opened, path, Settings(1))
        header, _ = unpack(data)
        top = np.abs(opened.rebuild(header, codes)).max() / gain
        assert figures["units"] == pytest.approx(1.0)  # a millisecond, for kbps
        found[name] = (codes.tolist(), figures["score"], top)
    assert found["loud"][0] == found["quiet"][0]
    np.testing.assert_allclose(found["loud"][2], found["quiet"][2], rtol=1e-3)


LOUD = 5 * np.sin(np.arange(24))[:, None]


@pytest.mark.parametrize(
    "name", ["image/a.png", "audio/loud.wav", "audio/quiet.wav", "video/a.gif"]
)
def test_the_score_is_of_the_file_as_it_is_written(bundles, tmp_path, name):
    """Of sound beyond full scale, of one of a few steps of 16 bits, and of a palette
    that colours are brought to."""
    kind, path = name.split("/")[0], tmp_path / name.split("/")[1]
    if kind == "image":
        picture(path, 6, 8, 3)
    elif kind == "audio":
        gain = 1 if path.stem == "loud" else 1e-4
        soundfile.write(path, gain * LOUD, 8000, subtype="FLOAT")
    else:
        noise = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3))
        signal = Record(noise.astype(np.uint8), 10.0, suffix=".gif")
        path.write_bytes(Video().write(signal))
    opened = open_codec(bundles / kind, batch=1)
    _, figures, _ = compress.compressed(opened, path, Settings(opened.prefixes.count))
    (found,) = there_and_back(bundles / kind, [path], tmp_path)
    original, back = (opened.data.read(each).values for each in (path, found))
    if len(back) < len(original):
        back = back[[*range(len(back)), len(back) - 1]]
    assert figures["score"] == opened.data.measure(original, back)
    if kind == "audio":
        wide = soundfile.info(found).subtype == "FLOAT"
        assert wide == (path.stem == "loud")


def test_a_file_of_more_codes_than_its_size_bears_out_takes_a_word(
    bundles, tmp_path, monkeypatch
):
    opened, path = open_codec(bundles / "grey", batch=1), tmp_path / "a.vqd"
    seen = picture(tmp_path / "a.png", 4, 4)
    path.write_bytes(compress.compressed(opened, seen, Settings(1))[0])
    monkeypatch.setattr(decompress, "room", lambda size: 3)
    with pytest.raises(BadInput, match="4 codes are too many"):
        decompress.read_codes(opened, path)
    assert decompress.read_codes(opened, path, large=True)[1].size == 4


def test_figures_of_all_files_are_sums_in_bytes_and_mean_scores():
    """80 codes of four in even use are 20 bytes, and as many of one are none."""
    counts = [np.full(4, 20), np.array([80, 0])]
    of = lambda **more: {"bytes": 100, "units": 400, "payload": 240} | more
    figures = [of(score=20.0), of(score=np.inf), of(score=30.0)]
    said = compress._total(modality_of("image"), figures, counts)
    assert said == (
        "300 bytes, 2 bits per pixel, PSNR 25.00 dB (mean); codes 90 bytes, order-0 "
        "entropy of all files' codes together 20"
    )


def test_files_that_differ_in_their_suffix_keep_it(bundles, tmp_path, capsys):
    paths = [picture(tmp_path / f"in.{end}", 4, 4, 3) for end in ("png", "bmp")]
    (tmp_path / "note.md").write_text("left out")
    (tmp_path / "more").mkdir()
    assert named_files([str(tmp_path)], Images.suffixes) == sorted(paths)
    assert "left out 1 .md, 1 folders" in capsys.readouterr().err
    found = there_and_back(bundles / "image", paths, tmp_path)
    assert [path.name for path in found] == ["in.bmp.png", "in.png.png"]


def test_sound_of_another_rate(bundles, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.sin(np.arange(100) / 9) / 2, 11_025)
    argv = [str(path), f"--bundle={bundles / 'audio'}", f"--out={tmp_path / 'coded'}"]
    with pytest.raises(
        BadInput, match="rate of 11025 a second and the bundle 8000; wr"
    ):
        compress.main(argv)
    assert not (tmp_path / "coded").exists()
    (found,) = there_and_back(bundles / "audio", [path], tmp_path, "--resample")
    values, rate = soundfile.read(found)
    assert (values.shape, rate) == ((100,), 11_025)
    header, _ = unpack((tmp_path / "coded" / "a.vqd").read_bytes())
    assert (header.shape, header.length) == ((100, 1), 73)  # ceil(100 * 8000 / 11025)


@pytest.mark.parametrize(
    "own, rate, other",
    [
        (0.4, 0.2, True),
        (29.97, 30.4, True),
        (30000 / 1001, 29.97, False),
        (8000.0, 8001.0, False),
        (8000.0, 0.0, False),  # stated by nobody
        (0.0, 8000.0, False),
    ],
)
def test_two_rates_are_one_by_their_share(own, rate, other):
    codec = types.SimpleNamespace(contract=types.SimpleNamespace(rate=own))
    assert layout.Opened(codec, None, None).resampled(rate) == other


def test_resampling_keeps_what_both_rates_can_hold():
    kind = Audio()
    t = np.arange(8000) / 8000
    wave = np.sin(2 * np.pi * 440 * t).astype(np.float32)[:, None]
    other = kind.resample(wave, 8000.0, 11_025.0)
    assert len(other) == 11_025
    back = kind.resample(other, 11_025.0, 8000.0)
    inside = slice(200, 7800)
    np.testing.assert_allclose(back[inside], wave[inside], atol=5e-3)
    times = np.arange(11_025) / 11_025
    expected = np.sin(2 * np.pi * 440 * times)[:, None]
    np.testing.assert_allclose(other[300:-300], expected[300:-300], atol=5e-3)


@pytest.mark.parametrize(
    "suffix", [".gif", pytest.param(".mp4", marks=pytest.mark.slow)]
)
def test_clips(bundles, tmp_path, suffix):
    frames = np.zeros((5, 6, 7, 3), np.uint8)
    frames[:, 2:4] = np.arange(5, dtype=np.uint8)[:, None, None, None] * 50
    path = tmp_path / f"a{suffix}"
    kind = Video()
    signal = Record(frames, 10.0, suffix=suffix)
    path.write_bytes(kind.write(signal))
    back = kind.read(path)
    assert back.values.shape == frames.shape and back.rate == 10.0
    assert np.abs(back.values.astype(int) - frames).max() <= 8
    (found,) = there_and_back(bundles / "video", [path], tmp_path)
    assert found.name == f"a{suffix}"
    assert kind.read(found).values.shape == frames.shape
    # Another rate is refused, or frames are taken for it and given back.
    path.write_bytes(kind.write(Record(frames, 20.0, suffix=suffix)))
    opened = open_codec(bundles / "video", batch=1)
    with pytest.raises(BadInput, match="a.*: it has a rate of 20 .*write --resample"):
        compress.compressed(opened, path, Settings(1))
    data, _, codes = compress.compressed(opened, path, Settings(1, resample=True))
    header, _ = unpack(data)
    assert (header.shape[0], header.length) == (5, 2)
    assert opened.rebuild(header, codes).shape == frames.shape


def frames_in(folder, count=5, side=6, suffix="png"):
    folder.mkdir(parents=True)
    for i in range(count):
        shade = np.full((side, 7, 3), 40 * i, np.uint8)
        Image.fromarray(shade).save(folder / f"{i:03d}.{suffix}")
    return folder


def test_a_folders_files_come_by_name_however_the_disk_lists_them(
    tmp_path, monkeypatch
):
    for order in ("abc", "cab", "cba"):
        inside = [tmp_path / f"{name}.png" for name in order]
        monkeypatch.setattr(Path, "iterdir", lambda folder, inside=inside: inside)
        found = named_files([str(tmp_path)], (".png",))
        assert [path.stem for path in found] == ["a", "b", "c"]


def test_a_folder_of_frames_is_a_clip(bundles, tmp_path):
    walk, run_ = frames_in(tmp_path / "clips/walk"), tmp_path / "clips/run.v2"
    frames_in(run_, 3, suffix="jpg")
    (walk / "notes.txt").write_text("not a frame")
    (walk / ".hidden.png").write_bytes(b"nor this")
    (tmp_path / "clips/empty").mkdir()
    # A folder of folders stands for them, and one of frames for itself.
    found = there_and_back(bundles / "video", [tmp_path / "clips"], tmp_path)
    assert [path.name for path in found] == ["run.v2", "walk"]
    names = [path.name for path in sorted(found[1].iterdir())]
    assert names == [f"{i:06d}.png" for i in range(5)]
    assert len(list(found[0].iterdir())) == 3
    opened = open_codec(bundles / "video", batch=1)
    header, codes = decompress.read_codes(opened, tmp_path / "coded" / "walk.vqd")
    expected = opened.rebuild(header, codes)
    assert expected.shape == (5, 6, 7, 3)
    for name, frame in zip(names, expected, strict=True):
        np.testing.assert_array_equal(pixels(found[1] / name), frame)
    assert opened.data.read(walk).values[:, 0, 0, 0].tolist() == [0, 40, 80, 120, 160]
    # Frames are replaced as a whole, and never more than frames.
    (found[1] / "000009.png").write_bytes(b"of a longer clip")
    argv = [str(tmp_path / "coded"), f"--bundle={bundles / 'video'}"]
    argv += [f"--out={tmp_path / 'out'}"]
    with pytest.raises(BadInput, match="run.v2 is there; write --force"):
        decompress.main(argv)
    decompress.main([*argv, "--force"])
    assert sorted(path.name for path in found[1].iterdir()) == names
    assert len(list((tmp_path / "out").iterdir())) == 2
    (found[1] / "mine.txt").write_text("keep me")
    with pytest.raises(BadInput, match="walk holds more than frames; remove it"):
        decompress.main([*argv, "--force"])
    assert (found[1] / "mine.txt").exists()


def test_which_folders_are_clips(bundles, tmp_path, capsys, monkeypatch):
    kind = (Video.suffixes, True)
    walk = frames_in(tmp_path / "clips" / "walk", 2)
    for name in ("a.gif", "._a.gif"):  # the second as some archives leave it
        (tmp_path / "clips" / name).write_bytes(b"GIF89a")
    both = [tmp_path / "clips" / "a.gif", walk]
    assert named_files([str(tmp_path / "clips")], *kind) == both
    assert named_files([str(tmp_path / "clips" / "*")], *kind) == both
    assert named_files([str(walk)], *kind) == [walk]
    monkeypatch.chdir(walk)
    (target,) = targets("coded", [(Path("."), ".vqd")], False)
    assert target == Path("coded/walk.vqd")
    # Of pictures a folder is what is in it.
    assert len(named_files([str(walk)], Images.suffixes)) == 2
    (walk / "b.gif").write_bytes(b"GIF89a")
    frames_in(tmp_path / "odd", 2)
    picture(tmp_path / "odd" / "x.png", 9, 9, 3)
    (frames_in(tmp_path / "cut", 2) / "001.png").write_bytes(b"\x89PNG")
    (tmp_path / "none").mkdir()
    for path, words in (
        (walk, "walk holds frames, which make it one clip, and b.gif; write folders"),
        (tmp_path / "odd", "odd: it has frames of 6x7 and of 9x9; write one size"),
        (tmp_path / "cut", "cut: 001.png: "),
        (tmp_path / "none", "none holds no .gif .mp4 .m4v"),
    ):
        argv = [path, f"--bundle={bundles / 'video'}", f"--out={tmp_path / 'coded'}"]
        line = refused(compress, argv, capsys)
        assert words in line, line
        assert not (tmp_path / "coded").exists()


def test_files_are_in_the_order_of_their_numbers(tmp_path):
    """As frames of a clip are: 2 before 10, in a folder and by a pattern."""
    names = ["img1.png", "img2.png", "img10.png", "img10a.png"]
    for name in names:
        picture(tmp_path / name, 4, 4, 3)
    for word in (tmp_path, tmp_path / "img*.png"):
        found = named_files([str(word)], Images.suffixes)
        assert [path.name for path in found] == names
    for folder in ("walk2", "walk10"):
        frames_in(tmp_path / "clips" / folder, 2)
    found = named_files([str(tmp_path / "clips")], Video.suffixes, True)
    assert [path.name for path in found] == ["walk2", "walk10"]


def test_series(bundles, tmp_path, capsys):
    time = np.round(7.5 + np.arange(19) / 50, 6)
    values = np.stack([np.sin(time) * 10 + 3, time], axis=1)
    path = tmp_path / "a.csv"
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time", "speed", "force, N"])
        for i, row in enumerate(values):
            rows.writerow([time[i], *("" if i in (3, 4) else f"{v:.6f}" for v in row)])
    plain = tmp_path / "b.npz"
    np.savez(plain, values=values)
    found = there_and_back(bundles / "series", [path, plain], tmp_path)
    assert [p.name for p in found] == ["a.csv", "b.npz"]
    rows = list(csv.reader(io.StringIO(found[0].read_text())))
    assert rows[0] == ["time", "speed", "force, N"]
    mine = np.array(rows[1:], float)
    np.testing.assert_allclose(mine[:, 0], time)
    with np.load(found[1], allow_pickle=False) as arrays:
        assert arrays.files == ["values"] and arrays["values"].shape == (19, 2)
        np.testing.assert_allclose(arrays["values"][8:16], mine[8:16, 1:], rtol=1e-4)
    # In the units of the file: through the bundle's offset and scale, both ways.
    codec = vqdit.load(bundles / "series")
    offset, scale = map(np.float32, UNITS["series"])
    x = (values[None, 8:16].astype(np.float32) - offset) / scale
    expected = np.asarray(codec.decode(codec.encode(x).codes))[0] * scale + offset
    np.testing.assert_allclose(mine[8:16, 1:], expected, rtol=1e-4)
    assert "bits per value, SNR" in capsys.readouterr().out


def test_parquet_is_read_and_written_as_csv_is(bundles, tmp_path):
    time = np.round(7.5 + np.arange(19) / 50, 6)
    values = np.stack([np.sin(time) * 10 + 3, time], axis=1)
    values[3, 0] = np.nan
    names = ["t", "speed", "force, N"]
    columns = [pyarrow.array(column) for column in (time, *values.T)]
    table = pyarrow.Table.from_arrays(columns, names=names)
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet")
    with open(tmp_path / "a.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(names)
        rows.writerows(np.concatenate([time[:, None], values], axis=1).tolist())
    paths = [tmp_path / "a.csv", tmp_path / "b.parquet"]
    a, b = there_and_back(bundles / "series", paths, tmp_path)
    assert (a.name, b.name) == ("a.csv", "b.parquet")
    with open(a, newline="") as file:
        names, *rows = csv.reader(file)
    back = pyarrow.parquet.read_table(b)
    assert back.column_names == names == ["t", "speed", "force, N"]
    mine = np.stack([column.to_numpy() for column in back.columns], axis=1)
    np.testing.assert_allclose(mine, np.array(rows, float), rtol=1e-6)
    np.testing.assert_allclose(mine[:, 0], time)
    # And what was written is read again.
    again = Series.of(2).read(b)
    np.testing.assert_array_equal(again.values, mine[:, 1:].astype(np.float32))
    assert again.rate == pytest.approx(50)


def test_dates_say_when(tmp_path):
    when = np.datetime64("2024-01-01") + 20 * np.arange(9).astype("timedelta64[ms]")
    table = pyarrow.table({"when": when, "x": np.arange(9)})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("\n".join(["x", *map(str, range(9))]))
    found = Series.of(1).read(tmp_path / "a.parquet")
    assert found.values[:, 0].tolist() == list(range(9))
    assert found.rate == pytest.approx(50)
    assert Series.of(1).read(tmp_path / "b.csv").rate == 0
    # Some programs mark a text as UTF-8 by what is no part of its first number.
    (tmp_path / "c.csv").write_text("\ufeff0,1\n2,3\n", encoding="utf-8")
    bare = Series.of(2).read(tmp_path / "c.csv")
    assert bare.values.tolist() == [[0, 1], [2, 3]]


def written(kind, path):
    """A table that is read and written, read again."""
    signal = kind.read(path)
    back = path.with_name(f"back{path.suffix}")
    back.write_bytes(kind.write(signal))
    again = kind.read(back)
    np.testing.assert_allclose(again.values, signal.values, rtol=1e-6)
    assert again.rate == pytest.approx(signal.rate)
    if path.suffix == ".csv":
        return pyarrow.csv.read_csv(back)
    return pyarrow.parquet.read_table(back)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_names_and_times_of_any_spelling_come_back(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write = {"csv": pyarrow.csv.write_csv, "parquet": pyarrow.parquet.write_table}
    time = 1.7e9 + np.arange(400) / 200  # seconds since 1970
    odd = {"t": time, "time": np.arange(400.0), "speed\n(m/s)": np.ones(400)}
    odd |= {"a;b;c;d;e": np.zeros(400), "tab\tand\r": np.zeros(400), "µ": np.zeros(400)}
    write[suffix](pyarrow.table(odd), path)
    back = written(Series.of(5), path)
    assert back.column_names == list(odd)
    np.testing.assert_allclose(back["t"].to_numpy(), time, rtol=0, atol=1e-6)
    # Dates come back as seconds, so under a name that says so, but where training did.
    when = np.datetime64("2024-01-01") + 20 * np.arange(9).astype("timedelta64[ms]")
    write[suffix](pyarrow.table({"when": when, "time": np.arange(9.0)}), path)
    assert written(Series.of(1), path).column_names == ["t", "time"]
    trained = Series.of(1, 50.0, time="when")
    assert written(trained, path).column_names == ["when", "time"]


def test_tables_coded_before_names_had_line_ends_are_written():
    names = zlib.compress(b"time\nspeed", 9)
    signal = Record(np.ones((2, 2), np.float32), 2.0, suffix=".csv")
    for extra, rows in (
        (struct.pack("<Bd", 3, 7.5) + names, "t,time,speed\n7.5,1,1\n8.0,1,1\n"),
        (bytes([2]) + names, "time,speed\n1,1\n1,1\n"),
        (struct.pack("<Bd", 1, 7.5), "7.5,1,1\n8.0,1,1\n"),
    ):
        coded = dataclasses.replace(signal, extra=extra)
        assert Series.of(2).write(coded).decode() == rows


def test_no_channel_is_taken_for_times(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("t,rh\n20,5\n20,6\n19,7\n")
    for channels, how in (
        (2, {"columns": (), "time": ""}),
        (2, {}),
        (4, {"columns": (), "time": "", "mask_channels": True}),
        (2, {"columns": ("t", "rh"), "time": ""}),
    ):
        found = Series.of(channels, **how).read(path)
        assert found.values.tolist() == [[20, 5], [20, 6], [19, 7]] and not found.rate
    # As it would be where nothing else can be meant.
    path.write_text("t,rh\n20,5\n20.5,6\n21,7\n")
    for channels, how in ((1, {}), (2, {"columns": ("rh",), "time": ""})):
        found = Series.of(channels, **how).read(path)
        assert found.values[:, 0].tolist() == [5, 6, 7] and found.rate == 2
    # And through the program, which knows how many channels there are.
    path.write_text("t,rh\n20,5\n20.5,6\n21,7\n21.5,8\n")
    data = Series(
        name="folder", data_dir=str(tmp_path), length=4, channels=2, holdout=0.0,
        threads=0, cleaning=None,
    )  # fmt: skip
    opened = bundle_of(data, tmp_path / "bundle")
    expected, (_, planes, _) = as_trained(data, opened, path)
    np.testing.assert_allclose(planes[0], expected, atol=1e-5)


def test_arrays_have_the_clock_that_training_takes(tmp_path):
    path, t = tmp_path / "a.npz", np.arange(9)
    kind, chosen = Series.of(1), Series.of(1, columns=("acc",))
    for arrays in (
        {"acc": t, "acc_rate": 50.0},
        {"acc": t, "acc_time": 3 + t / 50},
        {"acc": t, "time": t.astype(np.uint8) / 50},
    ):
        np.savez(path, **arrays)
        for each in (chosen, kind):
            found = each.read(path)
            assert found.values[:, 0].tolist() == t.tolist()
            assert found.rate == pytest.approx(50)
    # Several, and one that is not chosen.
    both = {"acc": t, "acc_rate": 50.0, "gyro": np.stack([t, -t], 1)}
    np.savez(path, **both, gyro_time=t / 50)
    three = Series.of(3)
    assert three.read(path).values.tolist() == [[i, i, -i] for i in range(9)]
    assert chosen.read(path).values.shape == (9, 1)
    for more, words in (
        ({"gyro_rate": 25.0}, "acc and gyro differ in their times; bring it to one"),
        ({}, "gyro has no times, unlike acc"),
        ({"gyro_time": t[1:]}, r"gyro_time is \[8\], not \[9\] as its array"),
        ({"gyro_rate": 0.0}, "gyro_rate is not one number above 0"),
    ):
        np.savez(path, **both, **more)
        with pytest.raises(Unreadable, match=words):
            three.read(path)
    for arrays, words in (
        ({"a": t, "b": t[1:]}, "a has 9 samples and b 8; bring it to one clock"),
        ({"a": np.zeros((2, 3, 4))}, r"array 'a' is \[2, 3, 4\], not \(t,\) or"),
        ({"a": np.zeros((0, 2))}, r"array 'a' is \[0, 2\], not"),
        ({"values": t, "time": t[1:]}, r"\(8,\) times for 9 rows"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(Unreadable, match=words):
            Series.of(1).read(path)
    # A bundle of another rate refuses what it would have coded on its own clock.
    np.savez(path, acc=np.arange(40.0), acc_rate=50.0)
    data = Series(
        name="folder", data_dir=str(tmp_path), length=40, channels=1, columns=("acc",),
        rate=100.0, holdout=0.0, threads=0,
    )  # fmt: skip
    opened = bundle_of(data, tmp_path / "bundle")
    with pytest.raises(BadInput, match="a rate of 50 a second and the bundle 100"):
        compress.read_file(opened, path, Settings(1))
    expected, _ = as_trained(data, opened, path, resample=True)
    planes = compress.read_file(opened, path, Settings(1, resample=True))[1]
    np.testing.assert_allclose(planes[0, :40], expected, atol=1e-4)


@pytest.mark.parametrize("rate", [20.0, 80.0])
def test_series_of_another_rate_are_prepared_after_it(tmp_path, rate):
    source = np.random.default_rng(0)
    time = np.arange(200) / 40
    x = np.stack([np.sin(3 * time), np.cos(time)], 1) + source.normal(0, 0.1, (200, 2))
    x[50, 0], x[60:62, 1], x[100:130, 0] = 40, np.nan, np.nan
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "a.parquet"
    table = pyarrow.table({"time": time, "a": x[:, 0], "b": x[:, 1]})
    pyarrow.parquet.write_table(table, path)
    for gap in (0.0, 10.0):
        data = Series(
            name="folder", data_dir=str(tmp_path / "data"), length=80, channels=2,
            time="time", rate=rate, longest_gap=gap, mask_channels=True, holdout=0.0,
            threads=0, cleaning=Cleaning(fill="mean", outliers="missing"),
        )  # fmt: skip
        opened = bundle_of(data, tmp_path / f"bundle{gap}")
        expected, found = as_trained(data, opened, path, resample=True)
        signal, planes, _ = found
        np.testing.assert_allclose(planes[0, :80], expected, atol=1e-4)
        # In the middle of what is missing for longer than 2.5 steps.
        assert planes[0, int(2.875 * rate), 2] == (gap > 0)
        assert len(signal.values) == 200 and signal.values[50, 0] == 40  # measured


@pytest.mark.parametrize("duplicates", ["first", "mean"])
def test_samples_of_one_time_are_made_one_as_in_training(tmp_path, duplicates):
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "a.csv"
    path.write_text("t,x\n0,1\n1,2\n1,6\n2,3\n3,4\n")
    data = Series(
        name="folder", data_dir=str(tmp_path / "data"), length=4, channels=1, time="t",
        rate=1.0, duplicates=duplicates, holdout=0.0, threads=0, cleaning=None,
    )  # fmt: skip
    opened = bundle_of(data, tmp_path / "bundle")
    expected, (_, planes, _) = as_trained(data, opened, path)
    assert expected[1, 0] == pytest.approx({"first": 2, "mean": 4}[duplicates])
    np.testing.assert_allclose(planes[0], expected, atol=1e-4)


def test_tables_that_are_none_are_one_line(bundles, tmp_path, capsys):
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n3,4\n")
    table = pyarrow.table({"a": [1.0], "b": ["text"]})
    pyarrow.parquet.write_table(table, tmp_path / "text.parquet")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1\n")
    (tmp_path / "names.csv").write_text("a,b\n")
    (tmp_path / "latin.csv").write_bytes(b"\xe9,b\n1,2\n")
    (tmp_path / "back.csv").write_text("time,a,b\n12:00:01,1,2\n12:00:00,3,4\n")
    huge = pyarrow.table({"time": pyarrow.array([2**64 - 1, 0], pyarrow.uint64())})
    for name in ("a", "b"):
        huge = huge.append_column(name, [[1.0, 2.0]])
    pyarrow.parquet.write_table(huge, tmp_path / "huge.parquet")
    (tmp_path / "three.csv").write_text("1,2,3\n4,5,6\n")
    for name, words in (
        ("cut.parquet", "not a whole parquet table"),
        ("twice.csv", "has 2 columns named 'a'"),
        ("text.parquet", "column 'b' holds string, not numbers .row 1: 'text'.$"),
        ("ragged.csv", "not a whole csv table"),
        ("names.csv", "has no rows"),
        ("latin.csv", "its first line is no UTF-8 text; save it as UTF-8"),
        ("back.csv", "it has a rate of 1 a second"),
        ("huge.parquet", "column 'time' cannot be read .Integer value"),
        ("three.csv", "it has 3 columns, and the bundle takes 2"),
    ):
        argv = [tmp_path / name, f"--bundle={bundles / 'series'}"]
        line = refused(compress, [*argv, f"--out={tmp_path / 'coded'}"], capsys)
        assert re.search(f"{name}: .*{words}", line), line
        assert not (tmp_path / "coded").exists()


@pytest.mark.parametrize("dtype", ["int16", "float32", "uint8"])
def test_volumes(bundles, tmp_path, dtype):
    source = np.random.default_rng(0)
    volume = source.normal(100, 50, (3, 5, 4)).clip(0, 255).astype(dtype)
    np.save(tmp_path / "a.npy", volume)
    np.savez(tmp_path / "b.npz", volume=volume[..., None])
    paths = [tmp_path / "a.npy", tmp_path / "b.npz"]
    a, b = map(np.load, there_and_back(bundles / "volume", paths, tmp_path))
    assert a.dtype == dtype and a.shape == volume.shape
    np.testing.assert_array_equal(a[..., None], b)
    codec = vqdit.load(bundles / "volume")
    x = (volume[None, :2, :4, :, None].astype(np.float32) - 100) / 50
    expected = np.asarray(codec.decode(codec.encode(x).codes))[0, ..., 0] * 50 + 100
    if dtype != "float32":
        limits = np.iinfo(dtype)
        expected = np.clip(np.round(expected), limits.min, limits.max)
    np.testing.assert_allclose(a[:2, :4], expected, rtol=1e-4, atol=1e-3)


def test_nifti_is_read_as_training_reads_it(bundles, tmp_path, capsys, monkeypatch):
    source = np.random.default_rng(0)
    scan = source.normal(100, 50, (3, 5, 4)).astype(np.float32)
    for name in ("a.nii.gz", "b.nii"):
        # Stored x first, as NIfTI has it.
        nibabel.save(
            nibabel.Nifti1Image(scan.swapaxes(0, 2), np.eye(4)), tmp_path / name
        )
    np.save(tmp_path / "c.npy", scan)
    (tmp_path / "d.txt.gz").write_bytes(b"no scan")
    found = there_and_back(bundles / "volume", [tmp_path], tmp_path)
    assert [path.name for path in found] == ["a.nii.gz", "b.nii", "c.npy"]
    a, b = (Volumes("folder").read(path).values[..., 0] for path in found[:2])
    c = np.load(found[2])
    assert a.shape == scan.shape and a.dtype == np.float32
    np.testing.assert_array_equal(a, c)
    np.testing.assert_array_equal(b, c)
    argv = [tmp_path / "b.nii", f"--bundle={bundles / 'volume'}"]
    argv += [f"--out={tmp_path / 'more'}"]
    (tmp_path / "b.nii").write_bytes(b"cut")
    assert "b.nii: not a whole NIfTI file" in refused(compress, argv, capsys)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    line = refused(compress, argv, capsys)
    assert line.endswith(
        "b.nii: NIfTI files need nibabel; pip install nibabel, or write .npy files"
    )
    assert line.count("b.nii") == 1 and not (tmp_path / "more").exists()


@pytest.mark.parametrize("kind", ["volume", "range"])
def test_of_several_arrays_the_one_that_training_takes(tmp_path, kind):
    x = np.random.default_rng(0).uniform(1, 9, SHAPES[kind]).astype(np.float32)
    path = tmp_path / "a.npz"
    np.savez(path, label=np.arange(3), **{kind: x})
    np.testing.assert_array_equal(modality_of(kind).of(1).read(path).values, x)
    np.savez(path, label=np.arange(3), x=x)
    with pytest.raises(Unreadable, match=f"no array '{kind}', only"):
        modality_of(kind).of(1).read(path)


def test_sweeps(bundles, tmp_path, capsys):
    """Round trip of shape, type, beams that did not return, and around the azimuth."""
    codec = vqdit.load(bundles / "range")
    sweep = np.random.default_rng(0).uniform(1, 79, (4, 8)).astype(np.float32)
    lost = np.zeros((4, 8), bool)
    lost[[0, 0, 3], [0, 7, 4]] = True
    turned = np.roll(sweep, 2, axis=1)
    np.save(tmp_path / "a.npy", np.where(lost, np.float32(np.nan), sweep))
    np.save(tmp_path / "b.npy", np.where(lost, 0, sweep)[..., None])
    np.save(tmp_path / "c.npy", np.where(np.roll(lost, 2, axis=1), -1, turned))
    np.save(tmp_path / "d.npy", (1000 * np.where(lost, 0, sweep)).astype(np.uint16))
    np.save(tmp_path / "e.npy", sweep)
    np.save(tmp_path / "f.npy", np.full((4, 8), np.nan, np.float32))
    np.save(tmp_path / "g.npy", np.concatenate([sweep, sweep[:, :3]], axis=1)[:3])
    paths = sorted(tmp_path.glob("*.npy"))
    found = there_and_back(bundles / "range", paths, tmp_path)
    a, b, c, d, e, f, g = map(np.load, found)
    assert (a.shape, b.shape, g.shape) == ((4, 8), (4, 8, 1), (3, 11))
    assert (a.dtype, d.dtype) == (np.float32, np.uint16)
    # Which beams returned is exact, and they come back as they were marked.
    np.testing.assert_array_equal(np.isnan(a), lost)
    np.testing.assert_array_equal(b[..., 0] == 0, lost)
    assert (c[np.roll(lost, 2, axis=1)] == -1).all()
    assert (d[lost] == 0).all() and np.isfinite(e).all() and np.isnan(f).all()
    # The rest is the tokenizer's, of the sweep with `far` in their place.
    x = codec.from_raw(np.where(lost, np.float32(80), sweep)[None, ..., None])
    expected = codec.to_raw(codec.decode(codec.encode(x).codes))[0, ..., 0]
    np.testing.assert_allclose(a[~lost], expected[~lost], rtol=1e-5)
    np.testing.assert_array_equal(b[~lost, 0], a[~lost])
    # A turn of the sensor by whole codes turns what comes back: azimuth wraps.
    np.testing.assert_allclose(
        np.roll(a, 2, axis=1)[~np.isnan(c)][0], c[0, 0], rtol=1e-5
    )
    np.testing.assert_allclose(
        np.roll(np.where(lost, -1, a), 2, axis=1), c, rtol=1e-4, atol=1e-3
    )
    # A longer sweep is filled up by its own start.
    opened = open_codec(bundles / "range", batch=1)
    longer = np.load(tmp_path / "g.npy")
    np.save(tmp_path / "h.npy", np.concatenate([longer, longer[:, :5]], axis=1))
    codes = [
        compress.compressed(opened, tmp_path / f"{name}.npy", Settings(1))[2]
        for name in "gh"
    ]
    np.testing.assert_array_equal(*codes)
    # The score is of beams that returned.
    error = np.square(a[~lost].astype(float) - sweep[~lost]).mean()
    reach = float(sweep[~lost].max()) - float(sweep[~lost].min())
    score = 10 * np.log10(reach**2 / error)
    first, *_ = capsys.readouterr().out.splitlines()
    assert f"PSNR {score:.2f} dB" in first


def test_what_sticks_out_around_the_azimuth_is_its_start():
    x = np.arange(10).reshape(2, 5, 1)
    tiling = Tiling((2, 5), (3, 4), around=1)
    second = tiling.cut(x, 1, 2)[0, ..., 0]
    np.testing.assert_array_equal(second, [[4, 0, 1, 2], [9, 5, 6, 7], [9, 5, 6, 7]])
    joined = tiling.join(tiling.cut(x, 0, 2).astype(np.float32), 1)
    np.testing.assert_array_equal(joined, x)


def bundle_of(data, folder):
    """A tokenizer's bundle that was trained on this data, as far as files go."""
    how = {"rate": float(data.rate), "preparation": data.preparation}
    vqdit.save(folder, toy(data.kind, data.shape, **how))
    return open_codec(folder)


def as_trained(data, opened, path, resample=False):
    """(what training is given of the one file, in its own units, what is coded)."""
    examples = fresh(data, True)
    x = examples.take(np.arange(1))["x"][0].astype(np.float64)
    if examples.scale:
        x = x * examples.scale + examples.offset
    return x, compress.read_file(opened, path, Settings(1, resample=resample))


def test_sweeps_are_coded_as_trained_on(tmp_path):
    sweep = np.random.default_rng(0).uniform(1, 50, (4, 8, 2)).astype(np.float32)
    sweep[0, 0], sweep[1, 1, 1], sweep[2, 2, 0] = np.nan, np.inf, 0
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "a.npy", sweep)
    folder = {"name": "folder", "data_dir": str(tmp_path / "data"), "holdout": 0.0}
    data = Ranges(rows=4, azimuth=8, channels=2, far=120.0, threads=0, **folder)
    opened = bundle_of(data, tmp_path / "bundle")
    expected, (_, planes, extra) = as_trained(data, opened, tmp_path / "data/a.npy")
    assert planes[0, 0, 0].tolist() == [120, 0]
    np.testing.assert_allclose(planes[0], expected, atol=1e-4)
    back = opened.data.restore(planes[0], extra)
    lost = np.isnan(back[..., 0])
    assert lost.sum() == 3 and lost[[0, 1, 2], [0, 1, 2]].all()
    np.testing.assert_array_equal(back[~lost], sweep[~lost])


def test_scans_are_coded_as_trained_on(tmp_path):
    scan = np.random.default_rng(0).normal(0, 200, (2, 4, 4)).astype(np.float32)
    scan[0, 0, 0] = np.nan
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "a.npy", scan)
    folder = {"name": "folder", "data_dir": str(tmp_path / "data"), "holdout": 0.0}
    data = Volumes(size=(2, 4, 4), window=(-160, 240), threads=0, **folder)
    opened = bundle_of(data, tmp_path / "bundle")
    expected, (signal, planes, _) = as_trained(data, opened, tmp_path / "data/a.npy")
    assert (planes.min(), planes.max()) == (-160, 240)
    np.testing.assert_allclose(planes[0], expected, atol=1e-3)
    assert signal.values.max() > 240  # the score is against the file
    plain = dataclasses.replace(data, window=())
    other = bundle_of(plain, tmp_path / "plain")
    planes = compress.read_file(other, tmp_path / "data/a.npy", Settings(1))[1]
    assert planes.max() > 240


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_series_are_coded_as_trained_on(tmp_path, suffix):
    source = np.random.default_rng(0)
    columns = {name: source.normal(5, 1, 40) for name in ("a", "b", "c")}
    columns["c"][[3, 4]], columns["c"][20] = np.nan, 500.0
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / f"a.{suffix}"
    if suffix == "npz":
        np.savez(path, **columns)
    else:
        # A column that is not chosen need not be one of numbers.
        table = pyarrow.table(columns | {"note": ["x"] * 40})
        write = {"csv": pyarrow.csv.write_csv, "parquet": pyarrow.parquet.write_table}
        write[suffix](table, path)
    data = Series(
        name="folder", data_dir=str(tmp_path / "data"), length=40, channels=2,
        columns=("c", "a"), mask_channels=True, holdout=0.0, threads=0,
        cleaning=Cleaning(fill="previous", outliers="missing"),
    )  # fmt: skip
    opened = bundle_of(data, tmp_path / "bundle")
    expected, (signal, planes, _) = as_trained(data, opened, path)
    assert planes.shape == (1, 40, 4) and signal.values.shape == (40, 2)
    np.testing.assert_allclose(planes[0], expected, atol=1e-3)
    assert planes[0, [3, 20, 21], 2].tolist() == [0, 0, 1]
    assert signal.values[20, 0] == 500  # the score is against the file
    # Only the signal comes back, under its names.
    values = opened.data.merge(planes, 2)
    back = dataclasses.replace(signal, values=values)
    (tmp_path / f"b.{suffix}").write_bytes(opened.data.write(back))
    again = opened.data.read(tmp_path / f"b.{suffix}")
    np.testing.assert_allclose(again.values, values, rtol=1e-6)
    with pytest.raises(BadInput, match="has no column 'd', only a, b, c"):
        other = dataclasses.replace(opened.data, columns=("a", "d"))
        compress.read_file(dataclasses.replace(opened, data=other), path, Settings(1))


@pytest.mark.parametrize(
    "clean", [AudioCleaning(), AudioCleaning(peak=None, loudness=-20.0)]
)
def test_sounds_are_coded_as_trained_on(tmp_path, clean):
    wave = 0.1 + 0.02 * np.random.default_rng(0).standard_normal(64)
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "a.wav"
    soundfile.write(path, wave, 8000, subtype="FLOAT")
    folder = {"name": "folder", "data_dir": str(tmp_path / "data"), "holdout": 0.0}
    data = Audio(length=64, threads=0, clean=clean, **folder)
    opened = bundle_of(data, tmp_path / "bundle")
    expected, (signal, planes, extra) = as_trained(data, opened, path)
    np.testing.assert_allclose(planes[0], expected, atol=1e-6)
    # Loudness and mean come back.
    back = opened.data.restore(opened.data.merge(planes, 1), extra)
    np.testing.assert_allclose(back, signal.values, atol=1e-6)
    silence = opened.data.prepare(Record(np.full((9, 2), 0.25, np.float32)))
    assert not silence.values.any()
    back = opened.data.restore(silence.values, silence.extra)
    assert (back == 0.25).all()
    other = Audio.of(1, dc=False, peak=None, loudness=None)
    np.testing.assert_array_equal(other.prepare(signal).values, signal.values)


def test_sounds_of_another_rate_are_brought_to_a_level_after_it(tmp_path):
    # Most of it is above what the lower rate holds.
    t = np.arange(1600) / 16_000
    wave = 0.1 * np.sin(2 * np.pi * 440 * t) + 0.8 * np.sin(2 * np.pi * 7000 * t)
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "a.wav"
    soundfile.write(path, wave + 0.05, 16_000, subtype="FLOAT")
    folder = {"name": "folder", "data_dir": str(tmp_path / "data"), "holdout": 0.0}
    data = Audio(length=800, rate=8000, threads=0, **folder)
    opened = bundle_of(data, tmp_path / "bundle")
    expected, found = as_trained(data, opened, path, resample=True)
    signal, planes, extra = found
    np.testing.assert_allclose(planes[0], expected, atol=1e-5)
    assert np.abs(planes).max() == pytest.approx(0.9)
    assert signal.values.shape == (1600, 1) and signal.rate == 16_000
    back = opened.data.restore(opened.data.merge(planes, 1), extra)
    np.testing.assert_allclose(back, Audio().resample(signal.values, 2, 1), atol=1e-5)


def test_every_preparation_has_a_kind_that_knows_it(tmp_path):
    for data in (
        Audio(),
        Images(white=4095),
        Ranges(),
        Series(longest_gap=1.0, duplicates="mean"),
        Video(),
        Volumes("folder", window=(0, 1), spacing=(1.0, 1.0, 1.0)),
    ):
        assert {name for name, _ in data.preparation} == set(data.takes)
    codec = toy("range")
    contract = dataclasses.replace(codec.contract, preparation=(("near", 1.0),))
    vqdit.trained.bundle.save(
        tmp_path / "new", Codec(codec.module, codec.variables, contract)
    )
    with pytest.raises(
        BadInput, match="prepared by 'near', which this program does no"
    ):
        open_codec(tmp_path / "new")


def test_tiles_cover_a_signal_and_join_to_it():
    source = np.random.default_rng(0)
    for size, tile, overlap in (
        ((1,), (8,), 3),
        ((8, 3), (4, 4), 0),
        ((17, 5), (4, 6), 3),
        ((3, 9, 10), (2, 4, 4), 1),
    ):
        x = source.normal(size=(*size, 2)).astype(np.float32)
        tiling = Tiling(size, tile, overlap)
        tiles = tiling.cut(x, 0, len(tiling))
        assert tiles.shape == (len(tiling), *tile, 2)
        np.testing.assert_allclose(tiling.join(tiles, 2), x, rtol=1e-6)
        # As few as cover it: one less along any axis would not reach the end.
        for count, length, side in zip(tiling.counts, size, tile, strict=True):
            assert (count - 1) * (side - overlap) + side >= length
            assert count == 1 or (count - 2) * (side - overlap) + side < length
    np.testing.assert_array_equal(
        Tiling((3,), (5,)).cut(np.arange(3)[:, None], 0, 1)[0, :, 0], [0, 1, 2, 2, 2]
    )
    ramp = Tiling((7,), (5,), 3).join(np.array([[0.0] * 5, [4.0] * 5])[..., None], 1)
    np.testing.assert_allclose(ramp[:, 0], [0, 0, 1, 2, 3, 4, 4], rtol=1e-6)


def refused(program, argv, capsys):
    """The one line that a program ends with."""
    with pytest.raises(SystemExit) as caught:
        run(program.main, [str(word) for word in argv])
    assert caught.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1:]
    assert error and error[0].startswith("error: ")
    return error[0]


def test_what_cannot_be_compressed_is_one_line(bundles, tmp_path, capsys, monkeypatch):
    image, audio = f"--bundle={bundles / 'image'}", f"--bundle={bundles / 'audio'}"
    out = f"--out={tmp_path / 'coded'}"
    good = picture(tmp_path / "good.png", 5, 5, 3)
    (tmp_path / "more").mkdir()
    same = picture(tmp_path / "more" / "good.png", 5, 5, 3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.wav").write_text("this is no sound\n")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:-30])
    soundfile.write(tmp_path / "silent.wav", np.zeros(0), 8000)
    for argv, words in (
        ([image, out], "write the files to read, or a folder of them"),
        ([good, out], "write --bundle=..., the tokenizer: a workdir or bundle"),
        ([good, image], "write --out=..., the folder of the .vqd files"),
        # Before the bundle is opened.
        (["none.png", "--bundle=none", out], "there is no none.png; write a file"),
        (["--bundle=none", out], "write the files to read"),
        ([good, "--bundle=none", f"--out={good}"], "is a file; write a folder"),
        ([good, f"--bundle={tmp_path}", out], "no bundle here"),
        ([good, image, f"--out={good}"], "is a file; write a folder"),
        ([tmp_path / "none.png", image, out], "there is no .*none.png; write a file"),
        ([tmp_path / "*.tif", image, out], "there is no .*tif; write a file"),
        ([tmp_path / "empty", image, out], "empty holds no .png .jpg"),
        ([good, audio, out], "good.png: the bundle's kind is read from .wav .flac"),
        ([tmp_path / "text.wav", audio, out], "text.wav: is a text file, and not a"),
        ([tmp_path / "silent.wav", audio, out], "silent.wav: holds no samples"),
        ([good, tmp_path / "cut.png", image, out], "cut.png: "),
        ([good, same, image, out], "would both become .*good.png.vqd"),
        ([good, image, out, "--books=4"], "--books=4: the tokenizer has 3 books"),
        ([good, image, out, "--overlap=4"], "--overlap=4: write 0 to 3"),
        ([good, image, out, "--peak=0.5"], "--peak=0.5: of sounds, write a level"),
        ([good, image, out, "--workdir=x"], "--workdir is of the counts: write --fit"),
        ([good, image, out, "--boks=2"], "did you mean --books"),
        ([good, "--fit"], "which experiment"),
    ):
        line = refused(compress, argv, capsys)
        assert re.search(words, line), line
        assert not (tmp_path / "coded").exists()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["compress", str(good), image, out])
        run(compress.main)
    line = refused(compress, [good, image, out], capsys)
    assert "good.vqd is there; write --force to replace it" in line
    compress.main([str(good), image, out, "--force"])
    assert [p.name for p in (tmp_path / "coded").iterdir()] == ["good.vqd"]


def test_what_cannot_be_decompressed_is_one_line(bundles, tmp_path, capsys):
    image, out = f"--bundle={bundles / 'image'}", f"--out={tmp_path / 'out'}"
    paths = [
        picture(tmp_path / f"{n}.png", 5, 5, 3, seed=i) for i, n in enumerate("ab")
    ]
    coded = tmp_path / "coded"
    compress.main([*map(str, paths), image, f"--out={coded}"])
    data = (coded / "b.vqd").read_bytes()
    for broken, words in (
        (data[:-3], "b.vqd: the file is cut short or altered; copy it again"),
        (data[:20] + b"?" + data[21:], "b.vqd: the file is cut short or altered"),
        (b"GIF89a" + data, "b.vqd: this is no .vqd file"),
        (b"", "b.vqd: this is no .vqd file"),
    ):
        (coded / "b.vqd").write_bytes(broken)
        assert words in refused(decompress, [coded, image, out], capsys)
        assert not (tmp_path / "out").exists()
    (coded / "b.vqd").write_bytes(data)
    grey = f"--bundle={bundles / 'grey'}"
    line = refused(decompress, [coded, grey, out], capsys)
    assert "a.vqd: it was made with bundle" in line and "--bundle is" in line
    assert "holds no .vqd" in refused(decompress, [tmp_path, image, out], capsys)
    decompress.main([str(coded), image, out])
    assert "is there; write --force" in refused(decompress, [coded, image, out], capsys)
    decompress.main([str(coded), image, out, "--force"])


def test_files_under_a_prior_need_it(bundles, tmp_path, capsys):
    folder = tmp_path / "bundle"
    codec = vqdit.load(bundles / "grey")
    vqdit.trained.bundle.save(folder, codec)
    source = np.random.default_rng(0)
    x = codec.from_raw(source.integers(0, 256, (500, 4, 4, 1)).astype(np.uint8))
    training = np.asarray(codec.encode(x).codes)
    mark = codec.contract.fingerprint
    priors.write_prior(
        folder, priors.count_codes([training], codec.contract.codes, mark)
    )
    path = picture(tmp_path / "a.png", 8, 8)
    coded, bundle = tmp_path / "coded", f"--bundle={folder}"
    compress.main([str(path), bundle, f"--out={coded}"])
    header, _ = unpack((coded / "a.vqd").read_bytes())
    assert header.coder.needs_prior
    decompress.main([str(coded), bundle, f"--out={tmp_path / 'out'}"])
    assert pixels(tmp_path / "out" / "a.png").shape == (8, 8)
    argv = [coded, bundle, f"--out={tmp_path / 'again'}"]
    priors.write_prior(
        folder, priors.count_codes([training[1:]], codec.contract.codes, mark)
    )
    assert "a.vqd: it was coded under prior.npz" in refused(decompress, argv, capsys)
    (folder / priors.FILE).unlink()
    assert "the bundle has none" in refused(decompress, argv, capsys)
    assert not (tmp_path / "again").exists()
    other = vqdit.load(bundles / "image").contract.fingerprint
    priors.write_prior(
        folder, priors.count_codes([training], codec.contract.codes, other)
    )
    assert "fitted for another tokenizer" in refused(decompress, argv, capsys)
