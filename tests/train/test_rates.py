"""Payloads are what is left of files without headers; curves meet at equal bits."""

import io
import json
import re
import struct
import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import vqdit
from tests.toys import drawn
from tests.train.experiments import TOKENIZER
from train import rates
from train.codec.coder import FIXED, PLACED, POOLED, Alphabet, Coder
from train.codec.prior import count_codes
from train.config.workdir import open_workdir
from train.errors import BadInput
from train.evaluation.evaluator import reconstruct
from vqdit import Codec, ConvDecoder, ConvEncoder, Tokenizer, VectorQuantizer
from vqdit.quantizers import MultiScaleQuantizer
from vqdit.quantizers.residual_fsq import ResidualFSQ
from vqdit.signal import to_uint8
from vqdit.trained.contract import contract_of


def saved(picture, **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, **options)
    return file.getvalue()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_a_jpegs_payload_is_its_scan():
    picture = noise(40, 24, 3)
    data = saved(picture, format="jpeg", quality=60)
    start = data.index(b"\xff\xda")
    start += 2 + struct.unpack(">H", data[start + 2 : start + 4])[0]
    scan = data[start:-2]
    assert data[-2:] == b"\xff\xd9" and b"\xff\x00" in scan
    assert rates.jpeg_payload(data) == len(scan) - scan.count(b"\xff\x00")
    # Comments and restart markers are not payload; more scans are.
    more = saved(picture, format="jpeg", quality=60, comment=b"x" * 500)
    assert rates.jpeg_payload(more) == rates.jpeg_payload(data) < len(more) - 500
    marked = saved(picture, format="jpeg", quality=60, restart_marker_blocks=1)
    parts = len(re.findall(b"\xff[\xd0-\xd7]", marked))
    assert parts == 5
    # Each part ends on a whole byte, and starts its differences anew.
    difference = rates.jpeg_payload(marked) - rates.jpeg_payload(data)
    assert 0 < difference < 4 * parts
    several = saved(picture, format="jpeg", quality=60, progressive=True)
    assert several.count(b"\xff\xda") > 3
    ratio = rates.jpeg_payload(several) / rates.jpeg_payload(data)
    assert 0.8 < ratio < 1.2


def test_a_webps_payload_is_its_chunk():
    picture = noise(40, 24, 3)
    data = saved(picture, format="webp", quality=60)
    assert rates.webp_payload(data) + 30 in (len(data), len(data) - 1)
    # The same chunk behind others, in an extended file.
    more = saved(picture, format="webp", quality=60, exif=b"Exif\0\0" + b"x" * 99)
    assert len(more) > len(data) + 99
    assert rates.webp_payload(more) == rates.webp_payload(data)
    # And behind one of an odd length, which has a byte that fills it up.
    odd = saved(picture, format="webp", quality=60, icc_profile=b"x" * 99)
    assert odd.index(b"ICCP") < odd.index(b"VP8 ")
    assert rates.webp_payload(odd) == rates.webp_payload(data)
    with pytest.raises(ValueError, match="no lossy WebP"):
        rates.webp_payload(saved(picture, format="webp", lossless=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_curves_rise(channels):
    ramp = np.linspace(0, 255, 32)[:, None, None] + np.zeros((32, 32, channels))
    images = np.stack([ramp, ramp[::-1]]).astype(np.uint8)
    images ^= noise(2, 32, 32, channels) & 15
    curves = rates.file_curves(images)
    names = ["JPEG"] if channels == 1 else ["JPEG 4:2:0", "JPEG 4:4:4"]
    assert list(curves) == [*names, "WebP"]
    # By tens where files look well, and the same of all formats.
    for points in curves.values():
        fine = [p["quality"] for p in points if p["quality"] >= 40]
        assert fine == [*range(40, 91, 10), 95]
    for points in curves.values():
        assert points[-1]["bits"] > 4 * points[0]["bits"]
        assert points[-1]["psnr_db"] > points[0]["psnr_db"] + 3
        assert points[-1]["ssim"] > points[0]["ssim"]
    by_hand = [
        len(saved(i.squeeze(), format="webp", quality=50, method=6)) for i in images
    ]
    (point,) = [p for p in curves["WebP"] if p["quality"] == 50]
    assert 0 <= np.mean(by_hand) - 30 - point["bits"] / 8 <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_point_of_a_format_is_the_mean_of_its_files(channels, monkeypatch):
    """Its bits without headers, and what is lost, of the files that Pillow writes with
    these options."""
    monkeypatch.setattr(rates, "JPEG", (50,))
    monkeypatch.setattr(rates, "WEBP", (60,))
    images = (
        noise(3, 16, 16, channels) // 3 + np.uint8([0, 40, 90])[:, None, None, None]
    )
    jpeg = {"format": "jpeg", "optimize": True}
    options = {
        "JPEG 4:2:0": jpeg | {"subsampling": "4:2:0"},
        "JPEG 4:4:4": jpeg | {"subsampling": "4:4:4"},
        "WebP": {"format": "webp", "method": 6},
    }
    if channels == 1:
        options = {"JPEG": jpeg, "WebP": options["WebP"]}
    curves = rates.file_curves(images)
    for name, how in options.items():
        quality = 60 if name == "WebP" else 50
        files = [saved(image.squeeze(), quality=quality, **how) for image in images]
        payload = rates.webp_payload if name == "WebP" else rates.jpeg_payload
        opened = [Image.open(io.BytesIO(file)) for file in files]
        # WebP has three channels of a grey picture, of which Pillow makes one.
        back = [x.convert("L") if channels == 1 else x for x in opened]
        back = np.stack([np.asarray(x) for x in back]).reshape(images.shape)
        (point,) = curves[name]
        assert point == {
            "quality": quality,
            "bits": pytest.approx(8 * np.mean([payload(file) for file in files])),
            "psnr_db": pytest.approx(vqdit.metrics.psnr(back, images)),
            "ssim": pytest.approx(vqdit.metrics.ssim(back, images), abs=1e-6),
        }


def test_what_is_lost_is_of_all_images_in_parts(monkeypatch):
    """The last of which is smaller, and counts no more for it."""
    sizes = []
    alike = lambda x, y: sizes.append((len(x), len(y))) or x[:, 0, 0, 0] / 100
    monkeypatch.setattr(rates, "CHUNK", 2)
    monkeypatch.setattr(rates, "ssim_per_image", alike)
    images = np.zeros((5, 4, 4, 1), np.uint8)
    decoded = images + np.uint8([51, 51, 51, 51, 0])[:, None, None, None]
    found = rates._distortion(decoded, images)
    assert found["ssim"] == pytest.approx(4 * 0.51 / 5)
    assert found["psnr_db"] == pytest.approx(10 * np.log10(25 / 0.8))  # 51 is a fifth
    assert sizes == [(2, 2), (2, 2), (1, 1)]


def test_curves_are_read_between_their_points_and_not_beyond():
    points = [{"bits": 400.0, "ssim": 0.8}, {"bits": 100.0, "ssim": 0.4}]
    assert rates.at_rate(points, 100.0, "ssim") == (0.4, pytest.approx(100))
    assert rates.at_rate(points, 200.0, "ssim") == (pytest.approx(0.6), 200.0)
    assert rates.at_rate(points, 50.0, "ssim") == (0.4, 100.0)
    assert rates.at_rate(points, 1e4, "ssim") == (0.8, 400.0)


def test_a_point_is_above_only_what_it_beats():
    def curve(*qualities):
        return [
            {"bits": bits, "psnr_db": q, "ssim": q / 100}
            for bits, q in zip((100.0, 400.0), qualities, strict=True)
        ]

    curves = {"JPEG 4:2:0": curve(20, 22), "JPEG 4:4:4": curve(18, 30)}
    curves |= {"WebP": curve(25, 35)}
    points = [
        {"name": "a", "bits": 100.0, "psnr_db": 21.0, "ssim": 0.3},
        {"name": "b", "bits": 200.0, "psnr_db": 23.0, "ssim": 0.31},
    ]
    a, b = rates.compare(points, curves)
    # The better JPEG at 200 bits is 4:4:4, at 24 dB.
    assert (a["JPEG_psnr_db"], b["JPEG_psnr_db"]) == (20, pytest.approx(24))
    assert a["above_JPEG_psnr_db"] and not a["above_WebP_psnr_db"]
    assert a["above_WebP_ssim"] and not b["above_JPEG_psnr_db"]
    assert b["above_JPEG_ssim"] and b["above_WebP_ssim"]
    assert rates.compare([points[0] | {"bits": 50.0}], curves) == [
        {
            "name": "a",
            "bits": 50.0,
            "JPEG_psnr_db": 20.0,
            "JPEG_psnr_db_bits": 100.0,  # of its lowest quality
            "above_JPEG_psnr_db": True,
            "JPEG_ssim": 0.2,
            "JPEG_ssim_bits": 100.0,
            "above_JPEG_ssim": True,
            "WebP_psnr_db": 25.0,
            "WebP_psnr_db_bits": 100.0,
            "above_WebP_psnr_db": False,
            "WebP_ssim": 0.25,
            "WebP_ssim_bits": 100.0,
            "above_WebP_ssim": True,
        }
    ]
    equal = {"name": "c", "bits": 100.0, "psnr_db": 25.0, "ssim": 0.2}
    assert not rates.compare([equal], curves)[0]["above_WebP_psnr_db"]


@pytest.mark.parametrize("measure, label", [("psnr_db", "PSNR, dB"), ("ssim", "SSIM")])
def test_a_plot_ends_at_twice_the_tokenizers_highest_rate(measure, label, monkeypatch):
    """Of 50 pixels an image; a curve that begins above it has its first point."""
    seen = []
    monkeypatch.setattr(rates, "line_plot", lambda *of, **how: seen.append((of, how)))
    point = lambda bits, q: {"bits": bits, "psnr_db": 100 * q, "ssim": q}
    ours = [point(200.0, 0.3), point(99.6, 0.2)]
    jpeg = [point(350, 0.1), point(400, 0.4), point(401, 0.5)]
    rates.plot(
        ours, {"JPEG": jpeg, "WebP": [point(900, 0.6), point(950, 0.7)]}, measure, 50
    )
    (((lines, *labels), how),) = seen
    of = 100 if measure == "psnr_db" else 1
    assert lines == {
        "tokenizer": ([1.992, 4.0], [0.2 * of, 0.3 * of]),
        "JPEG": ([7.0, 8.0], [0.1 * of, 0.4 * of]),
        "WebP": ([18.0], [0.6 * of]),
    }
    assert labels == ["payload, bits per pixel", label]
    assert how == {"points": {"tokenizer": ["100", "200"]}}


def residual():
    small = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}
    module = Tokenizer(
        ConvEncoder(**small, out=4), ConvDecoder(**small, out=1), ResidualFSQ((5, 3), 2)
    )
    variables = drawn(module, jnp.zeros((1, 8, 8, 1)))
    signal = {"kind": "image", "shape": (8, 8, 1)}
    contract = contract_of(module, signal, (4, 4), (0, 0), (1, 1), variables)
    return Codec(module, variables, contract)


@pytest.mark.slow
def test_every_number_of_books_is_a_point():
    codec, images = residual(), noise(60, 8, 8, 1)
    pixels, codes = reconstruct(codec, images)
    training = noise(60, 8, 8, 1, seed=1)
    prior = count_codes([reconstruct(codec, training)[1]], (15, 15), "f" * 64)
    one, two = rates.tokenizer_points("tok", codec, prior, images)
    assert [one["name"], two["name"]] == ["tok, 1 of 2 books", "tok, 2 of 2 books"]
    assert two["psnr_db"] == pytest.approx(vqdit.metrics.psnr(pixels, images))
    first = np.asarray(to_uint8(codec.decode(codes[..., :1])))
    assert one["psnr_db"] == pytest.approx(vqdit.metrics.psnr(first, images))
    assert one["ssim"] == pytest.approx(vqdit.metrics.ssim(first, images), abs=1e-6)
    assert one["fixed_bits"] == 16 * np.log2(15)
    flat = codes.reshape(60, 16, 2)
    bits = Alphabet((15, 15), prior).cost(flat, Coder(PLACED)) / 60
    assert two["bits"] == pytest.approx(bits)
    assert two["bits"] < two["fixed_bits"]
    # One table for all places never beats that of the test set's own codes.
    pooled = Alphabet((15, 15), prior).cost(flat, Coder(POOLED)) / 60
    assert two["order_0_bits"] <= pooled
    counts = [np.unique(flat[..., book], return_counts=True)[1] for book in (0, 1)]
    entropy = [-(n * np.log2(n / n.sum())).sum() / 60 for n in counts]
    assert one["order_0_bits"] == pytest.approx(entropy[0])
    assert two["order_0_bits"] == pytest.approx(sum(entropy))
    # Files end on whole bytes.
    for point in (one, two):
        assert point["bits"] - 8 <= point["payload_bits"] <= point["bits"] + 16


@pytest.mark.slow
def test_the_program_writes_figures_and_plots(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rates, "JPEG", (5, 50, 90))
    monkeypatch.setattr(rates, "WEBP", (5, 50, 90))
    asked, fit = [], rates.fit_prior
    monkeypatch.setattr(rates, "fit_prior", lambda *of: asked.append(of[2]) or fit(*of))
    workdir = open_workdir(tmp_path / "run", TOKENIZER)
    vqdit.trained.bundle.save(workdir / "bundle", residual())
    rates.main([f"--workdir={workdir}", "--most=60", "--counted=60"])
    assert asked == [60]
    found = json.loads((workdir / "rates.json").read_text())
    assert found["images"] == 60 and len(found["points"]) == 2
    assert {"JPEG", "WebP"} == set(found["curves"])
    for name in ("rates_psnr.png", "rates_ssim.png"):
        assert (workdir / name).read_bytes().startswith(b"\x89PNG")
    assert "run, 1 of 2 books: " in capsys.readouterr().out
    with pytest.raises(BadInput, match="--most: write a whole number, at least 1"):
        rates.main([f"--workdir={workdir}", "--most=0"])
    with pytest.raises(BadInput, match=r"takes \(8, 8, 1\), the data is \(9, 9, 1\)"):
        rates.main([f"--workdir={workdir}", "--config.data.size=9", "--most=9"])


@pytest.mark.parametrize(
    "count, decodes, kept", [(1, True, [1]), (2, False, [2]), (2, True, [1, 2])]
)
def test_a_point_has_the_bits_of_an_image(count, decodes, kept, monkeypatch):
    """Of four images: payloads in bytes, costs in bits. Books alone are named where
    there are several that can be decoded alone."""
    images = noise(4, 2, 2, 1)
    codes = np.zeros((4, 2, 2, count), int)
    coders = {Coder(PLACED): 100, Coder(FIXED): 300}
    fed = []

    def alphabet(prior, kept):
        return types.SimpleNamespace(
            cost=lambda part, coder: coders[coder] * part.shape[-1],
            order_0_bits=lambda part: 60 * part.shape[-1],
            best_coder=lambda row: ("best", row.shape),
            encode=lambda row, coder: fed.append((prior, coder)) or bytes(3 * kept),
        )

    books = types.SimpleNamespace(
        count=count, word="books", alphabet=alphabet, cut=lambda x, kept: x[..., :kept]
    )
    monkeypatch.setattr(rates, "reconstruct", lambda codec, x: (x, codes))
    monkeypatch.setattr(rates, "prefixes", lambda codec: books)
    monkeypatch.setattr(rates, "decodes_prefixes", lambda codec: decodes)
    monkeypatch.setattr(rates, "_decoded", lambda codec, part: part.shape)
    alike = lambda x, of: {"whole": x is images and of is images}
    monkeypatch.setattr(rates, "_distortion", alike)
    assert rates.tokenizer_points("tok", "codec", "prior", images) == [
        {
            "name": f"tok, {n} of 2 books" if len(kept) > 1 else "tok",
            "bits": 25 * n,
            "payload_bits": 8 * 3 * n,
            "fixed_bits": 75 * n,
            "order_0_bits": 15 * n,
            "whole": n == count,
        }
        for n in kept
    ]
    assert fed == [("prior", ("best", (1, 4, n))) for n in kept for _ in range(4)]


def opened_as(codec, prior=None, pixels=True):
    return types.SimpleNamespace(
        codec=codec,
        contract=codec.contract,
        prior=prior,
        data=types.SimpleNamespace(pixels=pixels),
    )


@pytest.mark.parametrize(
    "bundles, names",
    [
        (["runs/one", "two/"], ["one", "two"]),
        (["a/tok", "b/tok", "c"], ["a/tok", "b/tok", "{}/c"]),
        (["a/tok/bundle", "b/tok/best", "b/tok/../tok/bundle"], None),
        (["a", "./a"], ["a", "a"]),  # one bundle, twice
    ],
)
def test_bundles_in_folders_of_one_name_are_told_apart(
    bundles, names, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    names = names or ["a/tok/bundle", "b/tok/best", "b/tok/bundle"]
    assert rates._names(bundles) == [each.format(tmp_path.name) for each in names]


def test_every_bundle_is_measured_on_the_same_held_out_images(monkeypatch, capsys):
    """By its own prior, else by one that is counted on the training part."""
    images, asked = np.zeros((3, 8, 8, 1), np.uint8), []

    def whole(data, train, count):
        asked.append(("whole", data, train, count))
        return {"x": images}

    contract = types.SimpleNamespace(kind="image", shape=(8, 8, 1))
    one, two = (types.SimpleNamespace(contract=contract) for _ in range(2))
    bundles = {"runs/one": opened_as(one, "of one"), "runs/two": opened_as(two)}

    def points(name, codec, prior, x):
        assert x is images
        asked.append((name, codec, prior))
        last = {"name": name, "bits": 96.4, "psnr_db": 25.0}
        return [last | {"bits": 9.0}, last]

    monkeypatch.setattr(rates, "whole", whole)
    monkeypatch.setattr(rates, "open_codec", bundles.get)
    monkeypatch.setattr(rates, "fit_prior", lambda *of: of)
    monkeypatch.setattr(rates, "tokenizer_points", points)
    monkeypatch.setattr(rates, "file_curves", lambda x: {"of": len(x)})
    monkeypatch.setattr(rates, "compare", lambda *of: of)
    data = types.SimpleNamespace(shape=(8, 8, 1))
    found = rates.measure([*bundles], data)
    assert asked == [
        ("whole", data, False, 1000),
        ("one", one, "of one"),
        ("two", two, (two, data, 20_000)),
    ]
    assert [point["name"] for point in found["points"]] == ["one"] * 2 + ["two"] * 2
    assert found["images"] == 3 and found["shape"] == [8, 8, 1]
    assert found["curves"] == {"of": 3}
    assert found["compared"] == (found["points"], found["curves"])
    assert capsys.readouterr().err.splitlines() == [
        "runs/one: 96 bits, 25.00 dB",
        "runs/two: 96 bits, 25.00 dB",
        "JPEG and WebP",
    ]
    asked.clear()
    rates.measure(["runs/two"], data, 40, 50)
    assert asked == [("whole", data, False, 40), ("two", two, (two, data, 50))]
    asked.clear()
    with pytest.raises(BadInput, match="--counted: the codes of every bundle are coun"):
        rates.measure(["runs/one"], data, counted=50)
    bundles["runs/two"].data.pixels = False
    with pytest.raises(BadInput, match="--bundle: runs/two is of image; JPEG and WebP"):
        rates.measure(["runs/one", "runs/two"], data)
    contract.shape = (4, 8, 8, 1)
    with pytest.raises(BadInput, match="--bundle: runs/one is of image; JPEG and WebP"):
        rates.measure(["runs/one"], data)
    contract.shape = (4, 4, 1)
    with pytest.raises(BadInput, match="runs/one takes .4, 4, 1., the data is .8, 8,"):
        rates.measure(["runs/one"], data)
    assert not asked, "no image is read before"


def test_the_program_says_of_every_point_what_it_is_compared_with(
    tmp_path, capsys, monkeypatch
):
    """Each plot under its own name, over pixels and not values."""
    compared = {"name": "tok", "bits": 96.4}
    for i, name in enumerate(("JPEG", "WebP")):
        compared |= {f"{name}_psnr_db": 20.123 + i, f"{name}_ssim": 0.5 + i / 10}
        compared |= {f"{name}_psnr_db_bits": 90.0 + i, f"{name}_ssim_bits": 70.0}
    point = {"bits": 96.4, "fixed_bits": 100.0, "psnr_db": 30.126, "ssim": 0.91234}
    found = {"shape": [8, 6, 3], "points": [point], "curves": {"c": 1}}
    found["compared"] = [compared]
    found["curves"] = {"c": np.inf}  # of what comes back as it was
    asked = []
    measure = lambda *of, **how: asked.append((of, how)) or found
    monkeypatch.setattr(rates, "measure", measure)
    monkeypatch.setattr(rates, "plot", lambda *of: json.dumps(of).encode())
    workdir = open_workdir(tmp_path / "run", TOKENIZER)
    rates.main([f"--workdir={workdir}"])
    rates.main([f"--workdir={workdir}", "--bundle=a,b", "--most=7", "--counted=9"])
    assert asked == [
        (((str(workdir),), TOKENIZER.data), {}),
        ((("a", "b"), TOKENIZER.data), {"most": 7, "counted": 9}),
    ]
    said = {"data": TOKENIZER.data.name} | found | {"curves": {"c": None}}
    assert json.loads((workdir / "rates.json").read_text()) == said
    for name, of in (("psnr", "psnr_db"), ("ssim", "ssim")):
        plotted = json.loads((workdir / f"rates_{name}.png").read_bytes())
        assert plotted == [[point], {"c": np.inf}, of, 48]
    out, err = capsys.readouterr()
    line = (
        "tok: 96 bits (100 at fixed length), 30.13 dB, SSIM 0.9123; "
        "JPEG 20.12 dB, SSIM 0.5000 (90 bits); WebP 21.12 dB, SSIM 0.6000 (91 bits)"
    )
    assert out.splitlines() == [line] * 2
    assert err.splitlines() == [f"{workdir}/rates.json and two plots beside it"] * 2
    monkeypatch.setattr(type(TOKENIZER.data), "pixels", False)
    with pytest.raises(BadInput, match="data is image; JPEG and WebP are of images"):
        rates.main([f"--workdir={workdir}"])
    with pytest.raises(BadInput, match="write --workdir="):
        rates.main(["--config=demo_tokenizer"])


@pytest.mark.slow
def test_every_number_of_scales_is_a_point():
    small = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}
    module = Tokenizer(
        ConvEncoder(**small, out=4),
        ConvDecoder(**small, out=1),
        MultiScaleQuantizer(VectorQuantizer(7, 2), (1, 4), phis=1),
    )
    variables = drawn(module, jnp.zeros((1, 8, 8, 1)))
    signal = {"kind": "image", "shape": (8, 8, 1), "code_grid": (17,)}
    contract = contract_of(module, signal, (4, 4), (0, 0), (1, 1), variables)
    codec, images = Codec(module, variables, contract), noise(20, 8, 8, 1)
    pixels, codes = reconstruct(codec, images)
    prior = count_codes([codes], (7,), "f" * 64)
    one, two = rates.tokenizer_points("tok", codec, prior, images)
    assert [one["name"], two["name"]] == ["tok, 1 of 2 scales", "tok, 2 of 2 scales"]
    assert two["psnr_db"] == pytest.approx(vqdit.metrics.psnr(pixels, images))
    first = np.asarray(to_uint8(codec.decode(codes[:, :1])))
    assert one["psnr_db"] == pytest.approx(vqdit.metrics.psnr(first, images))
    assert one["fixed_bits"] == np.log2(7) and two["fixed_bits"] == 17 * np.log2(7)
    assert one["bits"] < two["bits"]
