"""Frames that are drawn after the first ones of a clip, beside simpler guesses."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from train.errors import BadInput, blame
from train.evaluation.crossings.crossings import Beside, own
from train.evaluation.drawing import first_shown, several
from train.evaluation.estimates import mean
from train.evaluation.evaluator import evaluated, examples
from train.evaluation.means import decibels
from train.modalities import Batch, Modality
from train.pipeline import open_examples
from train.runtime.keys import key_of
from vqdit.shapes import Float
from vqdit.signal import to_signal
from vqdit.trained.generator import Generator

Clips = Float[np.ndarray, "b f h w c"]


def forecasts(
    generator: Generator,
    data: Mapping[str, Modality],
    shown: Mapping[str, int],
    num: int = 1000,
    seed: int = 0,
    draws: int = 1,
    **sampler: Any,
) -> dict[str, dict[str, Any]]:
    """PSNR of the later frames of `num` held-out clips, by the mean of their squared
    errors, with its interval, as of a crossing: "video_after_3" -> who -> figures.

    model:  the mean of `draws` of the later latents, decoded, given the first `shown`
        of the stream.
    last:   the last frame that is given, again and again.
    linear: that frame, moved on as the centre of its brightness was moving.

    Nothing of the later frames is given: the clip that is encoded repeats the last.
    Raises BadInput for what `foreseen` refuses.
    """
    found = {}
    for name, (frames, draw) in foreseen(generator, data, shown, **sampler).items():
        who = {
            each: mean("psnr_db", _error(each), decibels)
            for each in ("model", "last", "linear")
        }
        how = frames, shown, num, seed, draw, draws
        batches = _guessed(generator, data[name], name, *how)
        with blame():
            figures = {"frames": frames} | evaluated(Beside(who), batches)
        found[f"{name}_after_{shown[name]}"] = figures
    return found


def foreseen(
    generator: Generator,
    data: Mapping[str, Modality],
    shown: Mapping[str, int],
    **sampler: Any,
) -> dict[str, tuple[int, Any]]:
    """Stream -> (frames that are given, what draws it), before anything is drawn.

    Raises BadInput for a stream that is not of clips, or whose latents in time see
    later frames, and for a sampler that it cannot have.
    """
    found = {}
    for name, count in shown.items():
        frames = frame_count(generator, data, name, count)
        with blame():
            found[name] = frames, generator.sampler(want=name, **own(sampler, name))
    return found


def frame_count(
    generator: Generator, data: Mapping[str, Modality], name: str, count: int
) -> int:
    """How many frames are given with so many latents of a stream; raises BadInput as
    `foreseen` does."""
    first_shown(generator, {name: count}, 1)
    codec = generator.codecs.get(name)
    causal = codec is not None and getattr(codec.module.encoder, "causal", False)
    if not causal or "frames" not in data[name].sides:
        raise BadInput(f"--shown.{name}: write a stream of clips by a causal tokenizer")
    clips: Any = data[name]  # Video, or what has its frames
    grid, frames = generator.streams[name].grid[0], clips.frames
    return 1 + (count - 1) * ((frames - 1) // (grid - 1))


def _error(who: str):
    """Of each example, with a peak of 1."""

    def values(batch: Batch) -> np.ndarray:
        error = np.square((batch[who] - batch["later"]) / 2, dtype=np.float64)
        error = error.reshape(len(error), -1).mean(1)
        return np.where(batch["there"], error, np.nan)

    return values


def _guessed(
    generator, data, name, frames, shown, num, seed, draw, draws
) -> Iterator[Batch]:
    index = open_examples(data, False).spaced(num)
    keys = several(key_of(seed), draws)
    for batch in examples(data, False, index, doing=f"going on with {name}"):
        clip = np.asarray(to_signal(batch["x"]))
        first, later = clip[:, :frames], clip[:, frames:]
        last = np.repeat(first[:, -1:], later.shape[1], 1)
        call = {"given": {name: np.concatenate([first, last], 1)}}
        call["known"] = first_shown(generator, {name: shown[name]}, len(clip))
        each = (draw(key, batch["index"], **call)[name] for key in keys)
        drawn = np.mean([np.asarray(x)[:, frames:] for x in each], axis=0)
        guesses = {"model": drawn, "last": last, "linear": moved(first, len(later[0]))}
        yield batch | guesses | {"later": later, "there": batch["valid"]}


def moved(first: Clips, count: int) -> Clips:
    """The last frame moved on, `count` times, by whole pixels: as far as the centre of
    brightness moved from the first frame to it, a frame. What comes in is black."""
    light = (first + 1).sum(-1)
    total = np.maximum(light.sum((2, 3)), 1e-6)
    sides = [np.arange(side) for side in light.shape[2:]]
    down, across = light.sum(3) @ sides[0], light.sum(2) @ sides[1]
    centers = np.stack([down, across], -1) / total[..., None]
    pace = (centers[:, -1] - centers[:, 0]) / max(1, first.shape[1] - 1)
    out = np.empty((len(first), count, *first.shape[2:]), first.dtype)
    for clip, frame, way in zip(out, first[:, -1], pace, strict=True):
        for k in range(count):
            by = (*np.round(way * (k + 1)), 0)
            ndimage.shift(frame, by, clip[k], order=0, cval=-1)
    return out
