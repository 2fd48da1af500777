"""Files of every kind and size to .vqd and back, and every refusal in one line."""

import csv
import io
import re

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from PIL import Image

import vqdit
from tests import toys
from tests.toys import drawn
from tests.train.experiments import TOKENIZER
from train import compress, decompress, layout
from train import prior as priors
from train.coding import KINDS, open_bundle
from train.compress import Settings
from train.container import unpack
from train.data import whole
from train.entropy import choose, decode, encode
from train.errors import BadInput, run
from train.media import Signal
from train.prefixes import prefixes
from train.tiles import Tiling
from train.workdir import open_workdir
from vqdit import FSQ, Codec, ConvDecoder, ConvEncoder, Tokenizer, VectorQuantizer
from vqdit.bundle import contract_of
from vqdit.quantizers import MultiScaleQuantizer
from vqdit.quantizers.residual_fsq import ResidualFSQ
from vqdit.tokenizer import WaveDecoder, WaveEncoder, to_uint8

SHAPES = {
    "image": (4, 4, 3),
    "audio": (8, 1),
    "video": (2, 4, 4, 3),
    "series": (8, 2),
    "volume": (2, 4, 4, 1),
}
RATES = {"audio": 8000.0, "video": 10.0, "series": 50.0}
UNITS = {"series": ((3.0, -2.0), (10.0, 0.5)), "volume": ((100.0,), (50.0,))}


def toy(kind) -> Codec:
    """A tokenizer of factor 2 with two channels of latents and weights drawn."""
    shape = SHAPES[kind]
    axes = len(shape) - 1
    small = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}
    quantizer = ResidualFSQ((3, 3), 3) if kind == "image" else FSQ((3, 3))
    module = Tokenizer(
        ConvEncoder(**small, out=4, dims=axes),
        ConvDecoder(**small, out=shape[-1], dims=axes),
        quantizer,
    )
    variables = drawn(module, jnp.zeros((1, *shape)))
    offset, scale = UNITS.get(kind, ((), ()))
    signal = {"kind": kind, "shape": shape, "rate": RATES.get(kind, 0.0)}
    signal |= {"offset": offset, "scale": scale}
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
        vqdit.bundle.save(folder / kind, toy(kind))
    vqdit.bundle.save(folder / "grey", toys.codec())
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


def pixels(path):
    return np.asarray(Image.open(path))


def picture(path, *shape, seed=0):
    source = np.random.default_rng(seed)
    Image.fromarray(source.integers(0, 256, shape).astype(np.uint8)).save(path)
    return path


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


def test_the_codes_in_a_file_are_the_tokenizers(bundles, tmp_path):
    path = picture(tmp_path / "a.png", 4, 4, 3)
    opened = open_bundle(bundles / "image", batch=1)
    data, figures, codes = compress.compressed(opened, path, Settings(3))
    (tmp_path / "a.vqd").write_bytes(data)
    header, back = decompress.codes_of(opened, tmp_path / "a.vqd")
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
    opened = open_bundle(bundles / "image", batch=1)
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


@pytest.mark.parametrize("prior", [False, True])
def test_the_first_scales_are_what_the_quantizer_makes_of_them(tmp_path, prior):
    codec, folder = multi_scale(), tmp_path / "scales"
    vqdit.bundle.save(folder, codec)
    if prior:
        # Every scale has codes of its own, so that tables of places pay.
        source = np.random.default_rng(0)
        training = source.integers(0, 7, (2000, 21, 1)) * (np.arange(21) % 3)[:, None]
        found = priors.fit([training % 7], (7,), codec.contract.fingerprint)
        priors.save(folder, found)
    path = picture(tmp_path / "a.png", 8, 16)
    opened = open_bundle(folder, batch=1)
    assert (opened.prior is not None) == prior
    x = codec.from_raw(pixels(path).reshape(8, 2, 8).swapaxes(0, 1)[..., None])
    codes = np.asarray(codec.encode(x).codes)
    sizes = []
    for scales, end in ((1, 1), (2, 5), (3, 21)):
        data, _, kept = compress.compressed(opened, path, Settings(scales))
        np.testing.assert_array_equal(kept, codes[:, :end])
        (tmp_path / "a.vqd").write_bytes(data)
        header, back = decompress.codes_of(opened, tmp_path / "a.vqd")
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
    prior = priors.fit([training], (7,), codec.contract.fingerprint)
    cut = prefixes(codec).prior(prior, 2)
    assert prior.counts[0].shape == (21, 7) and cut.counts[0].shape == (5, 7)
    codes = training[:3, :5]
    coder = choose(codes, (7,), cut)
    assert coder.name == "placed"
    payload = encode(codes, (7,), coder, cut)
    np.testing.assert_array_equal(decode(payload, 3, 5, (7,), coder, cut), codes)


def test_colour_through_a_grey_tokenizer(bundles, tmp_path):
    path = picture(tmp_path / "a.png", 4, 4, 3)
    (found,) = there_and_back(bundles / "grey", [path], tmp_path)
    codec = vqdit.load(bundles / "grey")
    grey = np.asarray(Image.open(path).convert("L"))[None, ..., None]
    expected = to_uint8(codec.decode(codec.encode(codec.from_raw(grey)).codes))
    np.testing.assert_array_equal(pixels(found), expected[0, ..., 0])


def test_overlap_is_kept_and_blended(bundles, tmp_path):
    path = picture(tmp_path / "a.png", 11, 10, 3)
    opened = open_bundle(bundles / "image", batch=4)
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
    vqdit.bundle.save(workdir / "bundle", codec)
    compress.main(["--fit", f"--workdir={workdir}"])
    assert (workdir / "bundle" / priors.FILE).exists()
    found = open_bundle(workdir).prior
    x = codec.from_raw(whole(TOKENIZER.data, train=True)["image"])
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


@pytest.mark.parametrize("length", [1, 99])
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
    vqdit.bundle.save(tmp_path / "wave", Codec(module, variables, contract))
    opened = open_bundle(tmp_path / "wave")
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
    opened = open_bundle(bundles / "audio", batch=1)
    wave = np.random.default_rng(0).uniform(-1, 1, (8, 1)).astype(np.float32)
    found = {}
    for name, gain in (("loud", 0.9 / np.abs(wave).max()), ("quiet", 0.002)):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, wave * gain, 8000, subtype="FLOAT")
        data, figures, codes = compress.compressed(opened, path, Settings(1, peak=0.9))
        header, _ = unpack(data)
        top = np.abs(opened.rebuild(header, codes)).max() / gain
        found[name] = (codes.tolist(), figures["score"], top)
    assert found["loud"][0] == found["quiet"][0]
    np.testing.assert_allclose(found["loud"][1:], found["quiet"][1:], rtol=1e-3)


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


def test_resampling_keeps_what_both_rates_can_hold():
    kind = KINDS["audio"]
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
    kind = KINDS["video"]
    signal = Signal(frames, 10.0, suffix)
    path.write_bytes(kind.write(signal))
    back = kind.read(path)
    assert back.values.shape == frames.shape and back.rate == 10.0
    assert np.abs(back.values.astype(int) - frames).max() <= 8
    (found,) = there_and_back(bundles / "video", [path], tmp_path)
    assert found.name == f"a{suffix}"
    assert kind.read(found).values.shape == frames.shape
    # Another rate is refused, or frames are taken for it and given back.
    path.write_bytes(kind.write(Signal(frames, 20.0, suffix)))
    opened = open_bundle(bundles / "video", batch=1)
    with pytest.raises(BadInput, match="a.*: it has a rate of 20 .*write --resample"):
        compress.compressed(opened, path, Settings(1))
    data, _, codes = compress.compressed(opened, path, Settings(1, resample=True))
    header, _ = unpack(data)
    assert (header.shape[0], header.length) == (5, 2)
    assert opened.rebuild(header, codes).shape == frames.shape


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


def test_what_cannot_be_compressed_is_one_line(bundles, tmp_path, capsys):
    image, audio = f"--bundle={bundles / 'image'}", f"--bundle={bundles / 'audio'}"
    out = f"--out={tmp_path / 'coded'}"
    good = picture(tmp_path / "good.png", 5, 5, 3)
    picture(tmp_path / "good.webp", 5, 5, 3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.wav").write_text("this is no sound\n")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:-30])
    soundfile.write(tmp_path / "silent.wav", np.zeros(0), 8000)
    for argv, words in (
        ([image, out], "write the files to read, or a folder of them"),
        ([good, out], "write --bundle=DIR, the workdir or bundle of a tokenizer"),
        ([good, image], "write --out=DIR"),
        ([good, f"--bundle={tmp_path}", out], "no bundle here"),
        ([good, image, f"--out={good}"], "is a file; write a folder"),
        ([tmp_path / "none.png", image, out], "there is no .*none.png; write a file"),
        ([tmp_path / "*.tif", image, out], "there is no .*tif; write a file"),
        ([tmp_path / "empty", image, out], "empty holds no .png .jpg"),
        ([good, audio, out], "good.png: the bundle's kind is read from .wav .flac"),
        ([tmp_path / "text.wav", audio, out], "text.wav: is a text file, and not a"),
        ([tmp_path / "silent.wav", audio, out], "silent.wav: holds no samples"),
        ([good, tmp_path / "cut.png", image, out], "cut.png: "),
        ([good, tmp_path / "good.webp", image, out], "would both become .*good.vqd"),
        ([good, image, out, "--books=4"], "--books=4: the tokenizer has 3 books"),
        ([good, image, out, "--overlap=4"], "--overlap=4: write 0 to 3"),
        ([good, image, out, "--peak=0.5"], "--peak=0.5: of sounds, write a level"),
        ([good, image, out, "--workdir=x"], "--workdir goes with --fit"),
        ([good, image, out, "--boks=2"], "did you mean --books"),
        ([good, "--fit"], "which experiment"),
    ):
        line = refused(compress, argv, capsys)
        assert re.search(words, line), line
        assert not (tmp_path / "coded").exists()
    compress.main([str(good), image, out])
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
    vqdit.bundle.save(folder, codec)
    source = np.random.default_rng(0)
    x = codec.from_raw(source.integers(0, 256, (500, 4, 4, 1)).astype(np.uint8))
    training = np.asarray(codec.encode(x).codes)
    mark = codec.contract.fingerprint
    priors.save(folder, priors.fit([training], codec.contract.codes, mark))
    path = picture(tmp_path / "a.png", 8, 8)
    coded, bundle = tmp_path / "coded", f"--bundle={folder}"
    compress.main([str(path), bundle, f"--out={coded}"])
    header, _ = unpack((coded / "a.vqd").read_bytes())
    assert header.coder.needs_prior
    decompress.main([str(coded), bundle, f"--out={tmp_path / 'out'}"])
    assert pixels(tmp_path / "out" / "a.png").shape == (8, 8)
    argv = [coded, bundle, f"--out={tmp_path / 'again'}"]
    priors.save(folder, priors.fit([training[1:]], codec.contract.codes, mark))
    assert "a.vqd: it was coded under prior.npz" in refused(decompress, argv, capsys)
    (folder / priors.FILE).unlink()
    assert "the bundle has none" in refused(decompress, argv, capsys)
    assert not (tmp_path / "again").exists()
    other = vqdit.load(bundles / "image").contract.fingerprint
    priors.save(folder, priors.fit([training], codec.contract.codes, other))
    assert "fitted for another tokenizer" in refused(decompress, argv, capsys)
