"""Which class of what is to be told of examples, to be read off their features."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from train.errors import BadInput
from train.evaluation.evaluator import examples
from train.modalities import Batch, Modality
from train.pipeline import open_examples
from vqdit.shapes import Int

TRAIN, HELD = 4000, 2000  # examples at most
SPEAKER = r"_([^_]+)_\d+$"
_OTHER = ("index", "valid", "row")  # which are no classes


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """Some examples of one part of the data, and the class of each."""

    data: Modality
    train: bool
    rows: Int[np.ndarray, "n"]
    classes: Int[np.ndarray, "n"]

    def gathered(
        self, made: Callable[[Batch], Mapping[str, np.ndarray]], doing: str
    ) -> dict[str, np.ndarray]:
        """What is made of each batch, rows of numbers by name, of all examples."""
        found: dict[str, np.ndarray] = {}
        done = 0
        how = (self.data, self.train, self.rows, False)
        for batch in examples(*how, doing=doing):
            valid = batch["valid"]
            end = done + int(valid.sum())
            for name, x in made(batch).items():
                if name not in found:
                    found[name] = np.empty((len(self.rows), x.shape[1]), np.float32)
                found[name][done:end] = np.asarray(x)[valid]
            done = end
        return found


def labelled_parts(
    data: Modality,
    target: str = "label",
    train_most: int = TRAIN,
    held_most: int = HELD,
) -> tuple[Labelled, Labelled, dict[str, Any]]:
    """(training examples, held-out ones of the same classes, what is said of them).

    target: see `train.probe`. Evenly spaced over each part. Raises BadInput where there
    are no two classes to tell apart.
    """
    rows = [
        open_examples(data, part).spaced(most)
        for part, most in ((True, train_most), (False, held_most))
    ]
    names = [targets(data, part, rows[not part], target) for part in (True, False)]
    *found, known = named_classes(*names)
    if len(known) < 2:
        raise BadInput(
            f"--target={target}: the training examples have {len(known)} classes; a "
            "probe tells two or more apart"
        )
    parts = [
        Labelled(data, part, rows[not part][mine >= 0], mine[mine >= 0])
        for part, mine in zip((True, False), found, strict=True)
    ]
    counts = [len(part.rows) for part in parts]
    if not counts[1]:
        raise BadInput(f"--target={target}: no held-out example is of a training class")
    usual = np.bincount(parts[0].classes).argmax()
    said = {
        "target": target,
        "classes": list(map(str, known)),
        "examples": counts,
        "left_out": int((found[1] < 0).sum()),
        # Of who always says the class that is the most frequent in training.
        "chance": float((parts[1].classes == usual).mean()),
    }
    return parts[0], parts[1], said


def targets(
    data: Modality, train: bool, rows: Int[np.ndarray, "n"], target: str
) -> np.ndarray:
    """What is to be told of each example, None where it is not known."""
    held = open_examples(data, train)
    if target == "label":
        found = held.labels[rows]
        return np.array([None if y < 0 else y for y in found.tolist()], object)
    if pattern := pattern_of(target):
        keys = held.keys  # which may be read from records
        if keys is None:
            raise BadInput(
                f"--target={target}: the examples of {data.name} have no names"
            )
        matches = []
        for row in rows:
            match = pattern.search(keys[row])
            matches.append(match and match[1])
        return np.array(matches, object)
    found = []
    for batch in examples(data, train, rows, divided=False, doing="reading"):
        fits = [n for n, x in batch.items() if np.ndim(x) == 1 and n not in _OTHER]
        kind = batch[target].dtype.kind if target in fits else ""
        if kind not in tuple("iuUO"):
            raise BadInput(
                f"--target={target}: write speaker, name:REGEX or one of "
                f"{', '.join(n for n in fits if batch[n].dtype.kind in 'iuUO')}"
            )
        found.append(batch[target][batch["valid"]].astype(object))
    return np.concatenate(found)


def pattern_of(target: str) -> re.Pattern[str] | None:
    """What tells it from an example's name; None where it is not told by that."""
    kind, _, rule = target.partition(":")
    if target != "speaker" and kind != "name":
        return None
    try:
        pattern = re.compile(rule or SPEAKER)
    except re.error as error:
        raise BadInput(f"--target={target}: {error}") from error
    if pattern.groups != 1:
        raise BadInput(f"--target={target}: write a pattern with one group (...)")
    return pattern


def named_classes(
    names: np.ndarray, others: np.ndarray
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "m"], list[Any]]:
    """Classes of training and held-out examples by the names of the former, -1 for a
    name that is None or that no training example has; and the names."""
    known = sorted({name for name in names.tolist() if name is not None})
    number = {name: i for i, name in enumerate(known)}
    found = [[number.get(name, -1) for name in x.tolist()] for x in (names, others)]
    return np.array(found[0], int), np.array(found[1], int), known
