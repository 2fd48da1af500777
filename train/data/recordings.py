"""Where recordings come from: generated tones, .npz arrays, folders, TFDS sets.

All end as clips by index: (l,) float32 of any length, cleaned, at the data's rate.
"""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from train.data.clean_audio import EXTENSIONS, one_channel, read_audio, resampled
from train.data.files import KEPT_BYTES, Files, listed, load_arrays
from train.data.images import Unreadable
from train.data.sources import chance, divide
from train.errors import BadInput

TONES, TONE_CLASSES = 80, 4


class Clips:
    """Recordings of one part by index, kept once read while they fit into memory.

    labels: int32, -1 where there is none. refused, found: as in Files.
    """

    refused: tuple[tuple[str, str], ...] = ()

    def __init__(
        self,
        read: Callable[[int], np.ndarray],
        rows: Sequence[int],
        labels: Sequence[int],
    ):
        self._read, self._rows = read, rows
        self.labels = np.asarray(labels, np.int32)
        self.found = len(rows)
        self._kept: dict[int, np.ndarray] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Float[np.ndarray, "l"]:
        if index not in self._kept:
            clip = self._read(int(self._rows[index]))
            if self._bytes + clip.nbytes > KEPT_BYTES:
                return clip
            self._bytes += clip.nbytes
            self._kept[index] = clip
        return self._kept[index]


def open_recordings(audio: Any, train: bool) -> tuple[Clips | Files, tuple[str, ...]]:
    """(clips, class names) of one part of an Audio; never empty.

    Raises BadInput, in one line, for whatever can't be read.
    """
    match audio.name:
        case "tones":
            return tones(audio, train)
        case "npz":
            return npz(audio, train)
        case "folder":
            return folder(audio, train)
        case _:
            from train.data.recorded_sets import catalogued

            return catalogued(audio, train)


def tones(audio: Any, train: bool) -> tuple[Clips, tuple[str, ...]]:
    """96 and 32 generated clips: a class is a pitch, with harmonics that die away.

    As long as the data's `length`, and a function of (index, rate, length).
    """
    rows = np.arange(96) if train else 96 + np.arange(32)
    pitches = [rate_share * audio.rate for rate_share in (0.02, 0.03, 0.045, 0.07)]

    def make(i: int) -> np.ndarray:
        random = np.random.default_rng((TONES, i))
        t = np.arange(audio.length) / audio.rate
        whole = audio.length / audio.rate
        pitch = pitches[i % TONE_CLASSES] * 2 ** random.uniform(-0.1, 0.1)
        start, fade = random.uniform(0, 0.3) * whole, random.uniform(3, 8) / whole
        swell = np.exp(-fade * np.maximum(t - start, 0)) * (t >= start)
        phases = random.uniform(0, 2 * np.pi, 4)
        x = sum(
            np.sin(2 * np.pi * k * pitch * t + phase) / k
            for k, phase in enumerate(phases, 1)
        )
        x = x * swell + 0.003 * random.standard_normal(audio.length)
        return audio.clean(0.3 * x, audio.rate)

    names = tuple(f"{pitch:g} Hz" for pitch in pitches)
    return Clips(make, rows, rows % TONE_CLASSES), names


def npz(audio: Any, train: bool) -> tuple[Clips, tuple[str, ...]]:
    """Arrays of an .npz: "audio" (n, l) or (n, l, c), floats in [-1, 1] or int16, and
    optional "label" (n,) and "rate".

    data_dir is one file, divided by holdout, or a folder that holds one file a split.
    """
    if not audio.data_dir:
        raise BadInput("data.data_dir is empty: write the .npz file to read")
    path = Path(audio.data_dir).expanduser()
    if path.is_dir():
        paths = [path / f"{s}.npz" for s in (audio.train_split, audio.test_split)]
        both = [_arrays(each) for each in paths]
        x, label, rate = both[0 if train else 1]
        classes = 1 + max(int(each[1].max()) for each in both)
        rows = np.arange(len(x))
    else:
        x, label, rate = _arrays(path)
        classes = 1 + int(label.max())
        _no_rule(audio, "an .npz file has no names of recordings")
        rows = divide(chance(0, np.arange(len(x))), audio.holdout, train, str(path))

    def read(i: int) -> np.ndarray:
        try:
            sound = one_channel(full_scale(x[i]))
        except Unreadable as error:
            raise BadInput(f"{path}: audio[{i}] {error}; take it out") from error
        return audio.clean(resampled(sound, rate or audio.rate, audio.rate), audio.rate)

    return Clips(read, rows, label[rows]), tuple(map(str, range(classes)))


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    try:
        found = load_arrays(path)
    except Unreadable as error:
        raise BadInput(f"{path}: {error}; write data.data_dir=FILE.npz") from error
    x = found.get("audio")
    if x is None or x.ndim not in (2, 3) or not x.size or x.dtype.kind not in "if":
        have = {name: list(array.shape) for name, array in found.items()}
        raise BadInput(
            f"{path}: holds {have}; write np.savez(file, audio=...), (n, l) or "
            "(n, l, c), floats in [-1, 1] or int16"
        )
    label = found.get("label", np.full(len(x), -1))
    if label.shape != (len(x),) or label.dtype.kind not in "iu":
        raise BadInput(
            f"{path}: label is {label.dtype} {list(label.shape)}; write one integer a "
            f"clip, ({len(x)},)"
        )
    if "label" in found and label.min() < 0:
        raise BadInput(f"{path}: label {label.min()}; write 0 or more")
    rate = found.get("rate", np.zeros(()))
    if rate.size != 1:
        raise BadInput(f"{path}: rate is {list(rate.shape)}; write one number")
    return x, label.astype(np.int64), float(rate.reshape(()))


def folder(audio: Any, train: bool) -> tuple[Files, tuple[str, ...]]:
    """WAV, FLAC and OGG files; a class is a sub-folder, a part as in `files.listed`."""
    rule = isinstance(audio.holdout, str)
    # By rule both parts are chosen among all files.
    data = _WithoutHoldout(audio) if rule else audio
    root, names, labels, classes = listed(data, EXTENSIONS, train or rule)
    if rule:
        held = held_out([Path(name).name for name in names], audio.holdout)
        rows = np.flatnonzero(held != train)
        names, labels = [names[i] for i in rows], [labels[i] for i in rows]
    read = functools.partial(read_audio, rate=audio.rate, clean=audio.clean)
    return Files(root, names, labels, read, audio.bad_share, audio.threads), classes


class _WithoutHoldout:
    """The data with everything in its training part."""

    def __init__(self, audio):
        self.data_dir, self.holdout = audio.data_dir, 0
        self.train_split = self.test_split = audio.train_split


def held_out(names: Sequence[str], rule: str) -> np.ndarray:
    """bool, which recordings are held out by "takes:0-4" or "speaker:theo".

    Names are of the form 7_jackson_32.wav: label, speaker, take.
    """
    parts = [Path(name).stem.rsplit("_", 2) for name in names]
    for name, part in zip(names, parts, strict=True):
        if len(part) != 3 or not part[2].isdigit():
            raise BadInput(
                f"data.holdout={rule!r}: {name!r} is not named like 7_jackson_32.wav "
                "(label, speaker, take); write a share"
            )
    kind, _, value = rule.partition(":")
    takes = re.fullmatch(r"(\d+)(?:-(\d+))?", value)
    if kind == "takes" and takes:
        low, high = int(takes.group(1)), int(takes.group(2) or takes.group(1))
        held = np.array([low <= int(part[2]) <= high for part in parts])
    elif kind == "speaker" and value:
        held = np.array([part[1] == value for part in parts])
    else:
        raise BadInput(
            f"data.holdout={rule!r}: write a share, takes:0-4, or speaker:NAME"
        )
    if not held.any() or held.all():
        speakers = ", ".join(sorted({part[1] for part in parts}))
        raise BadInput(
            f"data.holdout={rule!r} holds out {int(held.sum())} of {len(held)} "
            f"recordings; speakers are {speakers}"
        )
    return held


def _no_rule(audio, why: str) -> None:
    if isinstance(audio.holdout, str):
        raise BadInput(f"data.holdout={audio.holdout!r}: {why}; write a share")


def full_scale(x: np.ndarray) -> np.ndarray:
    """16-bit integers as floats in [-1, 1); floats as they are."""
    return x if x.dtype.kind == "f" else x / 32768.0
