"""What tokenizers of series, volumes, video and sweeps are scored by, and baselines.

Held-out examples only. Every function takes (codec, data, flags) and returns figures.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Shaped

from train.errors import BadInput
from train.evaluation.baselines import SAMPLE, block_kmeans
from train.modalities import Cleaning, Modality, Ranges, Series, Video, Volumes
from train.modalities.normalise import Normaliser
from train.pipeline import open_examples, whole
from train.runtime import hosts
from vqdit.metrics import perplexity, psnr, psnr_per_image, ssim, usage
from vqdit.signal import to_uint8
from vqdit.trained.codec import Codec

CHUNK, VALUES = 256, 2**21  # signals coded at a time, and their values in all
CLIPS = 512  # of video that are scored unless asked for more


def rebuild(
    codec: Codec, x: Float[np.ndarray, "n *shape c"]
) -> tuple[np.ndarray, np.ndarray | None]:
    """(reconstructions, codes or None) of signals or pixels, in chunks."""

    def run(part):
        q = codec.encode(codec.from_raw(part) if part.dtype == np.uint8 else part)
        return codec.decode(q.latents if q.codes is None else q.codes), q.codes

    return chunked(run, x)


def chunked(
    function: Callable, x: Shaped[np.ndarray, "n *shape"], values: int | None = None
) -> Any:
    """function(x), arrays of n rows, of as many rows at a time as are affordable, each
    process computing its own.

    One program for all chunks: the last is filled up with its last row.
    values: of the signal that a row stands for; None where rows are signals.
    """
    chunk = max(1, min(CHUNK, VALUES // (values or math.prod(x.shape[1:]))))
    parts, (index, of) = [], hosts.share()
    for low in range(index * chunk, len(x) + index * chunk, of * chunk):
        count = min(chunk, max(0, len(x) - low))
        part = x[low : low + chunk] if count else x[-1:]
        short = chunk - len(part) if len(x) > chunk or of > 1 else 0
        filled = np.concatenate([part, np.repeat(part[-1:], short, axis=0)])
        found = hosts.gather(function(filled))
        parts.append(jax.tree.map(lambda y, n=count: hosts.joined(y[:n]), found))
    return jax.tree.map(lambda *found: np.concatenate(found), *parts)


def _codes(codec: Codec, codes: np.ndarray | None) -> dict[str, Any]:
    """Bits of an example, and how much of each book is used."""
    if codes is None:
        return {}
    contract = codec.contract
    figures = {
        "tokens": math.prod(contract.code_grid),
        "bits_per_example": contract.bits,
    }
    books = list(enumerate(contract.codes))
    figures["usage"] = float(np.mean([usage(codes[..., i], k) for i, k in books]))
    figures["perplexity"] = float(
        np.mean([perplexity(codes[..., i], k) for i, k in books])
    )
    return figures


def score_series(codec: Codec, data: Series, flags: dict) -> dict[str, Any]:
    """Root mean square errors to the clean truth, in the series' own units.

    "reconstruction": of what the tokenizer rebuilds from series cleaned as it learned
    them, and "reconstruction_uncleaned" from the same as measured, with gaps at 0.
    Beside them "interpolation", linear over the gaps of what was measured, and
    "interpolation_cleaned", of what cleaning leaves: no network. Each over all values,
    and "_gaps" over the missing ones alone. Recordings without a truth are compared
    where they were measured with what was measured, cleaned.
    """
    most, channels = flags.get("most"), data.channels
    own = Normaliser(codec.contract.offset, codec.contract.scale)
    found = whole(data, train=False, count=most)
    x_hat, codes = rebuild(codec, found["series"])
    cleaned = _raw(data, data.cleaning or Cleaning(), most)[..., :channels]
    rebuilt = own.invert(x_hat)[..., :channels]
    # As measured: what cleaning rejects is no gap, though its mask says so too.
    measured = dataclasses.replace(data, cleaning=None)
    gaps = whole(measured, train=False, count=most)["mask"][..., :channels] == 0
    figures: dict[str, Any] = {"examples": len(rebuilt)} | _codes(codec, codes)
    figures["missing_share"] = float(gaps.mean())
    if "truth" not in found:
        figures["rmse_measured"] = _rms((rebuilt - cleaned)[~gaps])
        return figures
    truth = open_examples(data, False).normaliser.invert(found["truth"])
    as_measured = own(_raw(data, None, most))
    uncleaned = own.invert(rebuild(codec, as_measured)[0])[..., :channels]
    plain = _raw(data, Cleaning(fill="linear", outliers="keep"), most)
    for name, series in (
        ("reconstruction", rebuilt),
        ("reconstruction_uncleaned", uncleaned),
        ("interpolation", plain[..., :channels]),
        ("interpolation_cleaned", cleaned),
    ):
        figures[f"rmse_{name}"] = _rms(series - truth)
        figures[f"rmse_{name}_gaps"] = _rms((series - truth)[gaps])
    figures["std_truth"] = float(truth.std())
    return figures


def _raw(data: Series, cleaning: Cleaning | None, most: int | None) -> np.ndarray:
    """The held-out series under another cleaning, in their own units."""
    other = dataclasses.replace(data, cleaning=cleaning)
    examples = open_examples(other, False)
    rescale = Normaliser(examples.offset, examples.scale)
    return rescale.invert(whole(other, train=False, count=most)["series"])


def kmeans(
    codec: Codec, data: Modality, heldout: np.ndarray, flags: dict
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """({"kmeans_": k-means on blocks with as many codes and tokens}, why not): empty
    where one book's codes do not tile the signal, or `baseline` of flags is False."""
    contract, sides = codec.contract, heldout.shape[1:-1]
    pairs = list(zip(sides, contract.code_grid, strict=False))
    block = tuple(side // cell for side, cell in pairs)
    fits = tuple(size * cell for size, (_, cell) in zip(block, pairs, strict=True))
    if not flags.get("baseline", True) or len(contract.codes) != 1 or fits != sides:
        return {}, {}
    # No more examples than the sample of blocks that k-means reads.
    enough = -(-SAMPLE // math.prod(contract.code_grid))
    count = min(flags.get("most") or enough, enough)
    train = whole(data, train=True, count=count)[data.kind]
    try:
        return {"kmeans_": block_kmeans(train, heldout, block, contract.codes[0])}, {}
    except BadInput as error:  # too few blocks for as many codes
        return {}, {"kmeans": f"none: {error}"}


def _rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.square(error, dtype=np.float64).mean()))


def score_volume(codec: Codec, data: Volumes, flags: dict) -> dict[str, Any]:
    """PSNR on held-out scans, and of k-means on blocks with as many codes and tokens.

    The peak is the range [-1, 1] of the signal. Of phantoms also "_truth": the PSNR to
    the phantom without its noise, and that of the noisy phantom itself.
    """
    most = flags.get("most")
    batch = whole(data, train=False, count=most)
    heldout = batch["volume"]
    x_hat, codes = rebuild(codec, heldout)
    figures: dict[str, Any] = {"examples": len(heldout)} | _codes(codec, codes)
    found = {"": x_hat}
    more, why = kmeans(codec, data, heldout, flags)
    found, figures = found | more, figures | why
    for name, x in found.items():
        figures[f"{name}psnr_db"] = _psnr(x, heldout)
    if "truth" in batch:
        for name, x in ({"measured_": heldout} | found).items():
            figures[f"{name}psnr_truth_db"] = _psnr(x, batch["truth"])
    return figures


def _psnr(x: np.ndarray, y: np.ndarray) -> float:
    error = _rms(x - y)
    return -20 * math.log10(error / 2) if error else math.inf


def score_video(codec: Codec, data: Video, flags: dict) -> dict[str, Any]:
    """PSNR and SSIM of held-out clips, frame by frame as 8-bit pictures.

    psnr_db pools the error of all frames; psnr_by_frame_db has one figure a place in
    the clip, so that a first frame that is coded alone can be told from the rest.
    """
    heldout = whole(data, train=False, count=flags.get("most") or CLIPS)["video"]
    x_hat, codes = rebuild(codec, heldout)
    x_hat = np.asarray(to_uint8(x_hat))
    pairs = [(x_hat[:, i], heldout[:, i]) for i in range(data.frames)]
    pooled = [part.reshape(-1, *data.shape[1:]) for part in (x_hat, heldout)]
    return {
        "examples": len(heldout),
        **_codes(codec, codes),
        "psnr_db": psnr(*pooled),
        "psnr_frame_mean_db": float(np.mean(psnr_per_image(*pooled))),
        "ssim": ssim(*pooled),
        "psnr_by_frame_db": [psnr(*pair) for pair in pairs],
        "ssim_by_frame": [ssim(*pair) for pair in pairs],
    }


def score_range(codec: Codec, data: Ranges, flags: dict) -> dict[str, Any]:
    """Errors on held-out sweeps where a beam returned: the first channel in metres.

    rmse_m and, since a few beams past an edge make most of it, median_m. kmeans_: of
    k-means on blocks with as many codes and tokens.
    """
    most = flags.get("most")
    found = whole(data, train=False, count=most)
    heldout, returned = found["range"], found["mask"][..., 0] > 0
    x_hat, codes = rebuild(codec, heldout)
    own = Normaliser(codec.contract.offset, codec.contract.scale)
    figures: dict[str, Any] = {"examples": len(heldout)} | _codes(codec, codes)
    more, why = kmeans(codec, data, heldout, flags)
    rebuilt, figures = {"": x_hat} | more, figures | why
    truth = own.invert(heldout)[..., 0]
    for name, x in rebuilt.items():
        error = (own.invert(x)[..., 0] - truth)[returned]
        figures[f"{name}rmse_m"] = _rms(error)
        figures[f"{name}median_m"] = float(np.median(np.abs(error)))
    return figures


def score_any(codec: Codec, data: Modality, flags: dict) -> dict[str, Any]:
    """The mean of the modality's own measure, of signals in their own units."""
    heldout = whole(data, train=False, count=flags.get("most"))[data.kind]
    x_hat, codes = rebuild(codec, heldout)
    pair = [np.asarray(codec.to_raw(x)) for x in (heldout, x_hat)]
    scores = [data.measure(x, y) for x, y in zip(*pair, strict=True)]
    figures = {"examples": len(heldout)} | _codes(codec, codes)
    return figures | {"score_db": float(np.nanmean(scores))}
