"""Patients of known truth: a scan with a lesion or none, a record, and a finding.

The finding depends on both: how large, bright and lobed a lesion is, the scan alone
says; how high the marker is, how old the patient, and who smokes, the record alone. Of
the record's entries some follow from the scan (weight from the size of the body, ldh
from that of the lesion), some from each other.
"""

import numpy as np

from train.modalities.draws import Word
from train.modalities.record import Record
from train.modalities.volume import Volumes
from train.sources.generated.signals import (
    TRAIN,
    Body,
    Generated,
    anatomy,
    inside,
    random_rotation,
    rng,
)
from vqdit.shapes import Bool

FINDINGS = ("none", "benign", "malignant", "calcified", "motion")
SHARES = (0.4, 0.3, 0.3)  # of those that are trained on
PLANTED = 4  # of so many held-out patients one is of the last two kinds
MISSING = 0.15  # of the entries of a record


def patients(data: Volumes, train: bool) -> Generated:
    """Half of the lesions are malignant, and 15 % of a record's entries are missing."""
    return Generated(data, train, _patient, None, FINDINGS)


def planted(data: Volumes, train: bool) -> Generated:
    """The same to train on; every fourth of those that are held out has scattered
    calcifications, or slices that have moved, which nobody was trained on."""
    return Generated(data, train, _planted, None, FINDINGS)


def _planted(data: Volumes, part: int, row: int) -> Record:
    anomalous = part != TRAIN and row % PLANTED == 0
    kind = 3 + row // PLANTED % 2 if anomalous else None
    return _patient(data, part, row, kind)


def _patient(data: Volumes, part: int, row: int, kind: int | None = None) -> Record:
    """kind: index of the finding; None draws one of the first three."""
    draw = rng(Word.PATIENT, data.seed, part, row)
    finding = int(draw.choice(len(SHARES), p=SHARES)) if kind is None else kind
    truth, body = anatomy(data.size, draw)
    lesion = _lesion(finding, body, draw)
    truth[lesion] = draw.uniform(0.9, 1.25)
    if finding == 3:
        specks = draw.random(data.size) < 0.04
        truth[specks & body.mask] = draw.uniform(0.85, 1.25)
    if finding == 4:
        truth[::2] = np.roll(truth[::2], draw.choice((-2, 2)), axis=1)
    measured = truth + data.noise * draw.standard_normal(data.size)
    more = {
        "truth": truth.astype(np.float32)[..., None],
        "row": _record(finding, body, float(lesion.mean()), draw),
    }
    values = measured.astype(np.float32)[..., None]
    return Record(values, label=finding, more=more)


def _lesion(
    finding: int, body: Body, draw: np.random.Generator
) -> Bool[np.ndarray, "d h w"]:
    """One smooth ellipsoid where it is benign, three lobes where it is malignant."""
    found = np.zeros(body.mask.shape, bool)
    middle = body.within(draw)
    lobes, low, high = {1: (1, 0.16, 0.30), 2: (3, 0.18, 0.28)}.get(finding, (0, 0, 0))
    for _ in range(lobes):
        center = middle + (lobes > 1) * draw.uniform(-0.22, 0.22, 3)
        radii = draw.uniform(low, high) * draw.uniform(0.8, 1.2, 3)
        found |= inside(body.place, center, radii, random_rotation(draw))
    return found & body.mask


def _record(
    finding: int, body: Body, volume: float, draw: np.random.Generator
) -> dict[str, float | str | None]:
    """volume: of the lesion, as a share of the scan's."""
    malignant, sex = finding == 2, "fm"[draw.integers(2)]
    habits = (0.3, 0.3, 0.4) if malignant else (0.55, 0.25, 0.2)
    age, spread = (63.0, 12.0) if malignant else (55.0, 14.0)
    male, noise = sex == "m", draw.standard_normal(5)
    size = float(body.radii.mean()) - 0.64
    found = {
        "age": np.clip(age + spread * noise[0], 20, 95).round(),
        "sex": sex,
        "smoker": str(draw.choice(("never", "former", "current"), p=habits)),
        "weight": (72.0 + 12 * male + 300 * size + 4 * noise[1]).round(1),
        "haemoglobin": (13.4 + 1.6 * male - 0.6 * malignant + 0.9 * noise[2]).round(1),
        "ldh": (170 + 400 * volume ** (1 / 3) + 40 * noise[3]).round(),
        "marker": np.exp(1.0 + 0.8 * malignant + 0.7 * noise[4]).round(2),
    }
    gone = draw.random(len(found))
    return {
        name: None if u < MISSING else x if isinstance(x, str) else float(x)
        for (name, x), u in zip(found.items(), gone, strict=True)
    }
