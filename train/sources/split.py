"""Which records are trained on, and which are held out."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from train.errors import BadInput
from train.modalities.modality import Modality
from vqdit.shapes import Bool, Float64, Int

# Names of folders and splits that are parts of a set, and not classes.
TRAINING = ("train", "training")
HELD_OUT = ("test", "testing", "val", "valid", "validation", "dev", "eval", "holdout")
# What may follow in the name of a part: train2017, val_images, test-set.
MORE = re.compile(r"[\s_-]*(\d+|images?|imgs|set|data|split)$")


def name_draw(name: str) -> float:
    """A draw in [0, 1) that belongs to a file's name, and not to its neighbours."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "big") / 2.0**64


def divided(
    data: Modality,
    train: bool,
    draws: Float64[np.ndarray, "n"],
    where: str,
    names: Sequence[str] = (),
) -> Int[np.ndarray, "rows"]:
    """Indices of the training part, or of the held-out part, as data.holdout says: a
    share of those that are drawn, or a rule over the names of recordings."""
    rule = data.holdout
    if not isinstance(rule, str):
        return part_rows(draws, rule, train, where)
    kind, _, share = rule.partition(":")
    if kind == "name" and names:
        if not re.fullmatch(r"0?\.\d+", share):
            raise BadInput(f"data.holdout={rule!r}: write a share, such as name:0.1")
        draws = np.array([name_draw(data.stem(name)) for name in names])
        return part_rows(draws, float(share), train, where)
    if not names:
        raise BadInput(
            f"data.holdout={rule!r}: {where} has no names of recordings; write a share"
        )
    names = list(map(data.stem, names))
    return np.flatnonzero(held_out(names, rule) != train)


def ruled(data: Modality, paths: Sequence[str]) -> Sequence[str]:
    """What a rule over names reads of files in folders: of "name:0.1" their last part,
    so that files of one name go together whatever folder each is in."""
    if str(data.holdout).startswith("name:"):
        return [Path(path).name for path in paths]
    return paths


def refuse_rule(data: Modality, why: str) -> None:
    """Raises BadInput for a rule over names where there are none that it divides."""
    if isinstance(data.holdout, str):
        raise BadInput(f"data.holdout={data.holdout!r}: {why}")


def refuse_rule_of_parts(data: Modality, root: Path) -> None:
    """Raises BadInput for one where a folder has a file of each part."""
    refuse_rule(
        data,
        f"{root} has a file of each part, which no rule divides; leave it out, or "
        "write data.data_dir=FILE",
    )


def parts_among(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those of the names that parts of a set to train on have, and to test on. Where
    all of several have such a word, as train-clean-100 and dev-clean, these are parts,
    too."""
    lower: dict[str, str] = {}
    names, kinds = sorted(names, key=len), (TRAINING, HELD_OUT)  # the barest first
    for name in names:
        lower.setdefault(MORE.sub("", name.lower()), name)
    words = [
        {*re.findall("[a-z]+", name.lower())} & {*sum(kinds, ())} for name in names
    ]
    several = len(names) > 1 and all(words)
    for name, found in zip(names, words, strict=True) if several else ():
        for word in found:
            lower.setdefault(word, name)
    training, held = ([lower[w] for w in words if w in lower] for words in kinds)
    return training, held


def splits_of(training: str, held: str, data: Modality) -> str:
    """What to write for these two parts, as far as it is not written."""
    wanted = {"train_split": training, "test_split": held}
    return " ".join(f"data.{n}={v}" for n, v in wanted.items() if v != getattr(data, n))


def part_rows(
    draws: Float64[np.ndarray, "n"], holdout: float, train: bool, where: str
) -> Int[np.ndarray, "rows"]:
    """Indices of the training part, or of the held-out part: those drawn < holdout.

    Each draw belongs to its example, so a file added later moves no other across, or to
    all of one name, which stay together. Both parts get at least one example; holdout =
    0 keeps everything for training.
    """
    if holdout == 0:
        if not train:
            raise BadInput(
                "data.holdout=0 keeps nothing for testing; write for example 0.1"
            )
        return np.arange(len(draws))
    if len(np.unique(draws)) < 2:
        many = "examples of one name" if len(draws) > 1 else "example"
        raise BadInput(
            f"{where}: {len(draws)} {many} cannot be divided into training and test; "
            "add more, or write data.holdout=0"
        )
    held = draws < holdout
    if not held.any():
        held = draws == draws.min()
    if held.all():
        held = draws < draws.max()
    return np.flatnonzero(~held if train else held)


def held_out(names: Sequence[str], rule: str) -> Bool[np.ndarray, "n"]:
    """bool, which files are held out by "takes:0-4", "speaker:theo" or "match:REGEX".

    Names are paths below the root, without suffix. A regular expression is searched for
    in them; to the other rules they are label, speaker and take, 7_jackson_32.
    """
    kind, _, value = rule.partition(":")
    if kind == "match":
        try:
            held = np.array([bool(re.search(value, name)) for name in names])
        except re.error as error:
            raise BadInput(
                f"data.holdout={rule!r}: no regular expression ({error}); write for "
                "example match:_theo_"
            ) from error
        if not held.any() or held.all():
            raise BadInput(
                f"data.holdout={rule!r} holds out {int(held.sum())} of {len(held)}; "
                f"the first is {names[0]!r}"
            )
        return held
    parts = [Path(name).stem.rsplit("_", 2) for name in names]
    for name, part in zip(names, parts, strict=True):
        if len(part) != 3 or not part[2].isdigit():
            raise BadInput(
                f"data.holdout={rule!r}: {name!r} is not named like 7_jackson_32.wav "
                "(label, speaker, take); write a share, or match:REGEX"
            )
    takes = re.fullmatch(r"(\d+)(?:-(\d+))?", value)
    if kind == "takes" and takes:
        low, high = int(takes.group(1)), int(takes.group(2) or takes.group(1))
        held = np.array([low <= int(part[2]) <= high for part in parts])
    elif kind == "speaker" and value:
        held = np.array([part[1] == value for part in parts])
    else:
        raise BadInput(
            f"data.holdout={rule!r}: write a share, name:0.1, takes:0-4, speaker:NAME "
            "or match:REGEX"
        )
    if not held.any() or held.all():
        speakers = ", ".join(sorted({part[1] for part in parts}))
        raise BadInput(
            f"data.holdout={rule!r} holds out {int(held.sum())} of {len(held)} "
            f"recordings; speakers are {speakers}"
        )
    return held
