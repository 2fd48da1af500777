"""Signals that are already in memory: scikit-learn's digits, and arrays of an .npz."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from train.errors import BadInput, Unreadable, blame
from train.modalities.draws import chance
from train.modalities.files.arrays import load_arrays
from train.modalities.files.limits import MOST_CLASSES
from train.modalities.files.stored import from_home, printable
from train.modalities.modality import Modality
from train.modalities.record import Record
from train.sources.classes import refuse_sparse
from train.sources.source import Source, marked
from train.sources.split import divided, refuse_rule_of_parts
from vqdit.shapes import Int


class Arrays(Source):
    """Rows of an array, each a record.

    rate: samples or frames a second; 0: unknown. where: what a bad row is named by.
    """

    light = True
    labels: Int[np.ndarray, "n"]

    def __init__(
        self,
        data: Modality,
        x: np.ndarray,
        labels: Int[np.ndarray, "n"],
        class_names: Sequence[str] = (),
        rate: float = 0.0,
        where: str = "",
        keys: Sequence[str] | None = None,
    ):
        super().__init__(len(x), class_names)
        self.data, self.x, self.labels = data, x, labels
        self.rate, self.where, self.keys = rate, where, keys

    def read(self, rows):
        return [self._row(row) for row in rows]

    def _row(self, row: int) -> Record:
        record = Record(self.x[row], self.rate, label=int(self.labels[row]))
        try:
            return self.data.adapt(record)
        except Unreadable as error:
            raise BadInput(
                f"{self.where}: {self.data.kind}[{row}] {error}; take it out"
            ) from error


def digits(data: Modality, train: bool) -> Arrays:
    """Handwritten digits of scikit-learn, 8x8: a fixed stratified 1437 / 360 split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    # 16 grey levels and white: 0..16.
    image = np.round(found.images * (255 / 16)).astype(np.uint8)[..., None]
    parts = train_test_split(
        np.arange(len(image)), test_size=360, stratify=found.target, random_state=0
    )
    rows = np.sort(parts[0 if train else 1])
    names = tuple(map(str, found.target_names))
    return Arrays(data, image[rows], found.target[rows], names)


def open_npz(data: Modality, train: bool) -> Arrays:
    """Arrays of an .npz: the signals, under their kind, and optional "label" (n,),
    "key" (n,), integers that are no other example's, and "rate".

    data_dir is one file, divided by holdout, or a folder that holds one file a split:
    train.npz and test.npz. Where both splits name one, that file is divided.
    """
    if not data.data_dir:
        raise BadInput("data.data_dir is empty: write the .npz file to read")
    path = from_home(data.data_dir)
    if path.is_dir() and data.train_split == data.test_split:
        path /= f"{data.train_split}.npz"
    paths = [path]
    if path.is_dir():
        refuse_rule_of_parts(data, path)
        paths = [path / f"{s}.npz" for s in (data.train_split, data.test_split)]
    files = [_arrays(data, each) for each in paths]
    # One class count for both parts, or the label table would depend on the part.
    every = np.concatenate([label for _, label, _, _ in files])
    refuse_sparse(np.unique(every).tolist(), str(path))
    part = 0 if train else -1
    path, (x, label, key, rate) = paths[part], files[part]
    rows = np.arange(len(x))
    if len(files) == 1:
        rows = divided(data, train, chance(0, rows), str(path), key or ())
    names = tuple(map(str, range(1 + int(every.max()))))
    keys = None if key is None else [key[row] for row in rows]
    found = Arrays(data, x[rows], label[rows], names, rate, str(path), keys)
    with zipfile.ZipFile(path) as file:
        parts = [(each.filename, each.CRC, each.file_size) for each in file.infolist()]
    found.mark = marked(parts)
    return found


def _arrays(
    data: Modality, path: Path
) -> tuple[np.ndarray, np.ndarray, list[str] | None, float]:
    """(signals, labels, keys, rate) of a file."""
    if not path.exists():
        there = sorted(printable(each.stem) for each in path.parent.glob("*.npz"))
        parts = f", or a part that is there: {', '.join(there)}" if there else ""
        raise BadInput(f"{path}: no such file; write data.data_dir=FILE.npz{parts}")
    with blame(str(path)):
        found = load_arrays(path, alone=False)
        if "" in found:
            raise Unreadable(f"a single array; write np.savez(file, {data.kind}=...)")
        x = data.signals_in(found)
    label, key = found.get("label", np.full(len(x), -1)), found.get("key")
    for name, each in {"label": label, "key": label if key is None else key}.items():
        if each.shape != (len(x),) or each.dtype.kind not in "iu":
            broken = each[each % 1 != 0].tolist() if each.dtype.kind == "f" else []
            more = f"; {broken[0]:g} is none" if broken else ""
            raise BadInput(
                f"{path}: {name} is {each.dtype} {list(each.shape)}; write one integer "
                f"an example, ({len(x)},){more}"
            )
    if label.size and int(label.max()) >= MOST_CLASSES:
        raise BadInput(
            f"{path}: label goes to {label.max()}; number classes from 0, as "
            "np.unique(label, return_inverse=True)[1] does"
        )
    label = label.astype(np.int64)
    if "label" in found and label.min() < 0:
        at = int(label.argmin())
        raise BadInput(
            f"{path}: label[{at}] = {label[at]} is outside the classes; write 0 or more"
        )
    rate = found.get("rate", np.zeros(()))
    if rate.size != 1:
        raise BadInput(f"{path}: rate is {list(rate.shape)}; write one number")
    keys = None if key is None else list(map(str, key.tolist()))
    return x, label, keys, float(rate.reshape(()))
