"""Rate and distortion of tokenizers beside JPEG and WebP, on held-out images.

python -m train.rates --workdir=runs/tok
python -m train.rates --workdir=runs/tok --bundle=runs/tok,runs/coarse,runs/fine

Every bundle is a point, and every number of books of a residual one or of scales of a
multi-scale one. Writes rates.json, rates_psnr.png and rates_ssim.png into the workdir.
Where a bundle has no prior.npz, its codes are counted on the training images, of which
--counted are taken (20000).

What is compared is payload, with every doubt in favour of the others. JPEG: bytes of
the entropy-coded scans, without stuffing; its headers, which hold the quantization
tables and the Huffman tables made for each very image, are free. WebP: the VP8 chunk
without its frame header, at its slowest method. The tokenizer: cross-entropy of its
codes under the frequencies of the training set, which is what a range coder needs to
within a byte or two; `payload_bits` is what ours needs, whole bytes included.
"""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from train.codec.coder import FIXED, PLACED, Coder
from train.codec.counting import fit_prior
from train.codec.files import open_codec
from train.codec.prefixes import decodes_prefixes, prefixes
from train.config import Experiment
from train.config.command import OF_RUN, parse
from train.config.outputs import check_free
from train.errors import BadInput, run
from train.evaluation.evaluator import chunked, reconstruct
from train.modalities.files.pictures import open_picture
from train.modalities.files.writing import write, write_bytes
from train.pipeline import whole
from train.progress import progress, say
from train.report.pictures import line_plot
from train.runtime import hosts
from vqdit.fields import Count, Names
from vqdit.metrics import psnr, ssim_per_image
from vqdit.shapes import UInt8
from vqdit.signal import to_uint8

Pictures = UInt8[np.ndarray, "n h w c"]

JPEG = (1, 2, 3, 5, 7, 10, 14, 19, 25, 32, 40, 50, 60, 70, 80, 90, 95)
WEBP = (0, 1, 2, 4, 7, 11, 16, 22, 30, 40, 50, 60, 70, 80, 90, 95)
FLAGS = OF_RUN | {
    "bundle": (Names, "tokenizers, with commas between; else the workdir's"),
    "most": (Count, "test images (1000, evenly spaced)"),
    "counted": (Count, "training images that codes without a prior are counted on"),
}
COUNTED = 20_000
CHUNK = 256
MEASURES = ("psnr_db", "ssim")


def jpeg_payload(data: bytes) -> int:
    """Bytes of a JPEG file's scans, without markers, their segments and stuffing."""
    at, found = 2, 0
    while data[at + 1] != 0xD9:
        scan = data[at + 1] == 0xDA
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
        while scan:
            if data[at] != 0xFF:
                at, found = at + 1, found + 1
            elif data[at + 1] == 0:  # a byte of 255, and the zero that says so
                at, found = at + 2, found + 1
            elif 0xD0 <= data[at + 1] <= 0xD7:
                at += 2
            else:
                break
    return found


def webp_payload(data: bytes) -> int:
    """Bytes of a lossy WebP file's VP8 chunk after the ten of its frame header."""
    at = 12
    while data[at : at + 4] != b"VP8 ":
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        at += at % 2
        if at >= len(data):
            raise ValueError("this is no lossy WebP file")
    return int.from_bytes(data[at + 4 : at + 8], "little") - 10


def file_curve(
    images: Pictures,
    qualities: Sequence[int],
    payload: Callable[[bytes], int],
    **options,
) -> list[dict]:
    """A point for each quality of a format of Pillow's, over all images."""
    count, points = len(images), []
    plain = images[..., 0] if images.shape[-1] == 1 else images
    for quality in progress(qualities, options["format"], unit="quality"):
        total, decoded = 0, np.empty_like(images)
        for i, image in enumerate(plain):
            file = io.BytesIO()
            Image.fromarray(image).save(file, quality=quality, **options)
            total += payload(file.getvalue())
            back = open_picture(file).convert("L" if image.ndim == 2 else "RGB")
            decoded[i] = np.asarray(back).reshape(images.shape[1:])
        rate = {"quality": quality, "bits": 8 * total / count}
        points.append(rate | _distortion(decoded, images))
    return points


def file_curves(images: Pictures) -> dict[str, list[dict]]:
    """Name -> points of rising quality. JPEG with and without half-sized colour."""
    colour = {"JPEG 4:2:0": {"subsampling": 2}, "JPEG 4:4:4": {"subsampling": 0}}
    found = {}
    for name, more in ({"JPEG": {}} if images.shape[-1] == 1 else colour).items():
        options = {"format": "jpeg", "optimize": True} | more
        found[name] = file_curve(images, JPEG, jpeg_payload, **options)
    found["WebP"] = file_curve(images, WEBP, webp_payload, format="webp", method=6)
    return found


def tokenizer_points(name: str, codec, prior, images: Pictures) -> list[dict]:
    """A point for each number of books, or scales, that decodes; bits are an image's.

    bits: cross-entropy under the prior, its own tables at each place where it has them.
    payload_bits: of the files' payloads. fixed_bits: log2 k a code. order_0_bits:
    empirical entropy of all these codes together, which knows the test set.
    """
    pixels, codes = reconstruct(codec, images)
    assert codes is not None  # `open_codec` takes none without
    count, found = len(images), prefixes(codec)
    flat = codes.reshape(count, -1, codes.shape[-1])
    several = found.count > 1 and decodes_prefixes(codec)
    points = []
    for kept in range(1 if several else found.count, found.count + 1):
        alphabet, part = found.alphabet(prior, kept), found.cut(flat, kept)
        coded = sum(
            len(alphabet.encode(row, alphabet.best_coder(row)))
            for row in progress(part[:, None], "coding", unit="image")
        )
        of = f", {kept} of {found.count} {found.word}" if several else ""
        rate = {
            "name": name + of,
            "bits": alphabet.cost(part, Coder(PLACED)) / count,
            "payload_bits": 8 * coded / count,
            "fixed_bits": alphabet.cost(part, Coder(FIXED)) / count,
            "order_0_bits": alphabet.order_0_bits(part) / count,
        }
        all_of = kept == found.count
        shown = pixels if all_of else _decoded(codec, found.cut(codes, kept))
        points.append(rate | _distortion(shown, images))
    return points


def at_rate(points: Sequence[dict], bits: float, measure: str) -> tuple[float, float]:
    """(quality, bits) of a curve at a rate: linear in the logarithm of bits.

    Outside of the curve it is that of its end, with the bits there: a format that
    cannot go so low is taken at its lowest.
    """
    rates = np.array([point["bits"] for point in points])
    order = np.argsort(rates)
    values = np.array([point[measure] for point in points])[order]
    rates = rates[order]
    inside = float(np.clip(bits, rates[0], rates[-1]))
    return float(np.interp(np.log(inside), np.log(rates), values)), inside


def compare(points: Sequence[dict], curves: dict[str, list[dict]]) -> list[dict]:
    """For every point, each measure less the best of the curves' at as many bits.

    JPEG counts as one format, at the better of its two samplings of colour.
    """
    found = []
    for point in points:
        row = {"name": point["name"], "bits": point["bits"]}
        for family in sorted({name.split()[0] for name in curves}):
            members = [c for name, c in curves.items() if name.split()[0] == family]
            for measure in MEASURES:
                best, bits = max(at_rate(c, point["bits"], measure) for c in members)
                row[f"{family}_{measure}"] = best
                row[f"{family}_{measure}_bits"] = bits
                row[f"above_{family}_{measure}"] = point[measure] > best
        found.append(row)
    return found


def plot(points, curves, measure: str, pixels: int) -> bytes:
    """Lines over bits per pixel, up to twice the tokenizers' highest rate."""
    most = 2 * max(point["bits"] for point in points)
    lines = {}
    ours = sorted(points, key=lambda point: point["bits"])
    for name, curve in ({"tokenizer": ours} | curves).items():
        shown = [p for p in curve if p["bits"] <= most] or curve[:1]
        lines[name] = ([p["bits"] / pixels for p in shown], [p[measure] for p in shown])
    marks = {"tokenizer": [f"{p['bits']:.0f}" for p in ours]}
    label = {"psnr_db": "PSNR, dB", "ssim": "SSIM"}[measure]
    return line_plot(lines, "payload, bits per pixel", label, points=marks)


def _decoded(codec, codes):
    values = math.prod(codec.contract.shape)
    return chunked(lambda part: to_uint8(codec.decode(part)), codes, values)


def _distortion(decoded, images):
    chunks = (slice(low, low + CHUNK) for low in range(0, len(images), CHUNK))
    alike = [ssim_per_image(decoded[rows], images[rows]) for rows in chunks]
    mean = float(np.concatenate(alike).mean())
    return {"psnr_db": psnr(decoded, images), "ssim": mean}


def measure(
    bundles: Sequence[str | Path], data, most: int = 1000, counted: int | None = None
) -> dict:
    codecs = [(path, open_codec(path)) for path in bundles]
    if counted is not None and all(opened.prior for _, opened in codecs):
        raise BadInput("--counted: the codes of every bundle are counted; drop it")
    for path, opened in codecs:
        if not opened.data.pixels or len(opened.contract.shape) != 3:
            raise BadInput(
                f"--bundle: {path} is of {opened.contract.kind}; JPEG and WebP are of "
                f"images"
            )
        if opened.contract.shape != tuple(data.shape):
            raise BadInput(
                f"--bundle: {path} takes {opened.contract.shape}, the data is "
                f"{tuple(data.shape)}"
            )
    images = whole(data, train=False, count=most)["x"]
    points = []
    for name, (path, opened) in zip(_names(bundles), codecs, strict=True):
        prior = opened.prior or fit_prior(opened.codec, data, counted or COUNTED)
        points += tokenizer_points(name, opened.codec, prior, images)
        say(f"{path}: {points[-1]['bits']:.0f} bits, {points[-1]['psnr_db']:.2f} dB")
    say("JPEG and WebP")
    curves = file_curves(images)
    return {
        "images": len(images),
        "shape": list(images.shape[1:]),
        "measures": "psnr_db of the error pooled over images, mean ssim; 8-bit images",
        "points": points,
        "curves": curves,
        "compared": compare(points, curves),
    }


def _names(bundles: Sequence[str | Path]) -> list[str]:
    """The ends of their paths, as many folders as tell one from another."""
    parts = [Path(path).resolve().parts for path in bundles]
    ends = ([p[-n:] for p in parts] for n in range(1, max(map(len, parts)) + 1))
    found = next(each for each in ends if len({*each}) == len({*parts}))
    return ["/".join(each) for each in found]


def main(argv=None):
    hosts.alone()
    command = parse(argv, Experiment, FLAGS, needed=["workdir"], measures=True)
    check_free(command.workdir, ["rates.json", *map(_file, MEASURES)])
    data, flags = command.experiment.one_data, dict(command.flags)
    if not data.pixels or len(data.shape) != 3:
        raise BadInput(f"data is {data.kind}; JPEG and WebP are of images")
    bundles = flags.pop("bundle", (str(command.workdir),))
    found = measure(bundles, data, **flags)
    write(command.workdir / "rates.json", {"data": data.name} | found)
    pixels = math.prod(found["shape"][:-1])
    for name in MEASURES:
        picture = plot(found["points"], found["curves"], name, pixels)
        write_bytes(command.workdir / _file(name), picture)
    for point, row in zip(found["points"], found["compared"], strict=True):
        others = [
            f"{name} {row[f'{name}_psnr_db']:.2f} dB, SSIM {row[f'{name}_ssim']:.4f} "
            f"({row[f'{name}_psnr_db_bits']:.0f} bits)"
            for name in ("JPEG", "WebP")
        ]
        ours = f"{point['psnr_db']:.2f} dB, SSIM {point['ssim']:.4f}"
        fixed = f"{point['fixed_bits']:.0f} at fixed length"
        print(
            f"{row['name']}: {row['bits']:.0f} bits ({fixed}), {ours}; "
            + "; ".join(others)
        )
    say(f"{command.workdir}/rates.json and two plots beside it")


def _file(measure: str) -> str:
    return f"rates_{measure.partition('_')[0]}.png"


if __name__ == "__main__":
    run(main)
