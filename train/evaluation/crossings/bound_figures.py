"""Figures of tables of bounds, by name, as JSON has them, lines that say them, and the
file that keeps them: scores.json, of each bundle's seal the questions that were asked.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from train.errors import BadInput
from train.evaluation.crossings.bounds import BoundTable, clues
from train.evaluation.crossings.retrieval import ranks, retrieved
from train.evaluation.estimates import Z, roc_auc
from train.evaluation.measured import Figures
from train.evaluation.ngrams import bits_per_byte
from train.modalities.files.writing import write
from vqdit.sealed import opened, sealed
from vqdit.shapes import Float, Int
from vqdit.trained.bundle import read_json


def figures_of(
    table: BoundTable,
    of: Sequence[str],
    classify: str | None = None,
    true: Int[np.ndarray, "n"] | None = None,
    anomalies: Mapping[str, int] | None = None,
) -> Figures:
    """Of a table of `bounds_of`.

    "of" whom, "examples"; "nats" and "bits", means, and "nats_error", the standard
    error of the first. With `classify` "classified": "of" what, the "accuracy" of the
    likeliest, and the area under the ROC curve of the posterior, "auc", by the `true`
    labels. With `anomalies`, a class by each name, "anomalies": name, or "all" -> what
    it is told by, see `clues` -> the area of that, against all that are none. Of a
    table with columns "without_...", "saved": what is given -> how many nats it saves
    an example beside the others, a pair at a time, with the "interval" of the mean.
    """
    nats, bits, label = (
        table[name].astype(float) for name in ("nats", "bits", "label")
    )
    error, draws = 0.0, table["error"].mean()
    if len(nats) > 1:
        error = nats.std(ddof=1) / len(nats) ** 0.5
    if anomalies or len(nats) == 1:  # of one draw for all, or of one example
        error = np.hypot(error, draws)
    found: Figures = {"of": ", ".join(of), "examples": len(nats)}
    found |= {"nats": nats.mean(), "nats_error": error, "bits": bits.mean()}
    if classify is not None and true is not None and (true >= 0).any():
        known = true >= 0
        tried = [name for name in table if name.startswith("nats_")]
        sure = softmax([-table[name][known] for name in tried], axis=0)
        of_class = dict(zip((int(name[5:]) for name in tried), sure, strict=True))
        right = (table["likeliest"] == true)[known].mean()
        found["classified"] = {"of": classify, "accuracy": right}
        found["classified"] |= roc_auc(true[known], of_class)
    if anomalies:
        found["anomalies"] = _anomalies(table, label, anomalies)
    if less := [name for name in table if name.startswith("without_")]:
        found["saved"] = {n.removeprefix("without_"): _saved(table, n) for n in less}
    return found


def _saved(table, without: str) -> Figures:
    saved = table[without].astype(float) - table["nats"]
    found = {"nats": saved.mean()}
    if len(saved) > 1:
        half = Z * saved.std(ddof=1) / len(saved) ** 0.5
        found["interval"] = [found["nats"] - half, found["nats"] + half]
    return found


def _anomalies(table, label, anomalies: Mapping[str, int]) -> Figures:
    numbers = [*anomalies.values()]
    usual = (label >= 0) & ~np.isin(label, numbers)
    told = clues(table, usual)
    found: dict[str, dict[str, Any]] = {}
    asked: dict[str, Any] = {"all": numbers, **anomalies}
    for name, these in asked.items():
        is_one = np.isin(label, these)
        if is_one.any() and (len(numbers) > 1 or name == "all"):
            found[name] = {}
            for what, x in told.items():
                seen = (is_one | usual) & np.isfinite(x)
                found[name][what] = roc_auc(is_one[seen], {1: x[seen]})
    return found


def text_figures(
    table: BoundTable, held: Sequence[bytes], train: Sequence[bytes] | None = None
) -> Figures:
    """ "bits_per_byte" of whole texts: of the "model", and, where there are texts to
    train on, of what needs no network."""
    bits = table["nats"].sum() / math.log(2) / max(1, table["bytes"].sum())
    found = {"model": bits}
    if train is not None:
        found |= bits_per_byte(train, held)
    return {"bits_per_byte": found}


def rank_figures(
    whose: tuple[str, str],
    costs: Float[np.ndarray, "n k"],
    back: Float[np.ndarray, "n n"],
    chosen: Int[np.ndarray, "n"],
    near: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figures:
    """ "ranks": what was looked for -> see `retrieved`.

    whose: what is scored, and what is given. costs, back: of the chosen, by candidates,
        and of these by the chosen. near: the same by the nearest training example.
    """
    (of, given), same = whose, np.arange(len(chosen))
    there = f"the true {given} of {of} among {costs.shape[1]}"
    again = f"the true {of} of {given} among {len(chosen)}"
    sides = {there: (costs, chosen), again: (back, same)}
    if near is not None:
        by = "by the nearest training example"
        sides |= {f"{there}, {by}": (near[0], chosen)}
        sides |= {f"{again}, {by}": (near[1], same)}
    return {"ranks": {what: retrieved(ranks(*side)) for what, side in sides.items()}}


def lines(figures: Figures) -> Iterator[str]:
    """What there is of the figures, each in one line."""
    if {"nats", "nats_error", "bits"} <= figures.keys():
        yield (
            f"{figures['of']}: {figures['nats']:.4g} nats an example, +- "
            f"{figures['nats_error']:.2g}; {figures['bits']:.4g} bits a code or channel"
        )
    if classified := figures.get("classified"):
        of = classified["of"]
        yield f"the likeliest {of} is the true one of {classified['accuracy']:.2%}"
        yield from _curve(f"the posterior of {of}", classified)
    for name, curves in figures.get("anomalies", {}).items():
        for what, found in curves.items():
            yield from _curve(f"{what}, {name}", found)
    for name, saved in figures.get("saved", {}).items():
        low, high = saved.get("interval", (None, None))
        ends = "" if low is None else f", 95 % in {low:.4g} to {high:.4g}"
        yield f"{name} saves {saved['nats']:.4g} nats beside what else is given{ends}"
    for what, bits in figures.get("bits_per_byte", {}).items():
        own = what == "model"
        yield f"{bits:.4g} bits a byte of text" + ("" if own else f", {what}")
    for what, found in figures.get("ranks", {}).items():
        said = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
        yield f"{what}: {said}"


def _curve(what: str, found: Figures) -> Iterator[str]:
    if found.get("auc_interval"):
        low, high = found["auc_interval"]
        yield (
            f"ROC-AUC of {what}: {found['auc']:.4f}, 95 % in {low:.4f} to {high:.4f}"
        )


def kept(path: Path) -> dict[str, dict[str, Figures]]:
    """A bundle's seal -> question -> figures; nothing where there is no file. Raises
    BadInput for another file than `keep_figures` writes."""
    try:
        scores = opened(read_json(path), needed=True)["scores"]
        # A file that is sealed anew may still hold anything.
        for asked in scores.values():
            for figures in asked.values():
                [*lines(figures)]
        return scores
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise BadInput(
            f"{path} is not what train.score has written ({error}); move it away"
        ) from error


def keep_figures(path: Path, seal: str | None, question: str, figures: Figures) -> None:
    """Puts figures beside those of other questions, and of other bundles. Of a bundle
    without a seal nothing is kept, since it may be any."""
    if seal is not None:
        scores = kept(path)
        asked = scores.get(seal, {}) | {question: _finite(figures)}
        write(path, sealed({"scores": scores | {seal: asked}}))


def _finite(figures: Any) -> Any:
    """JSON has no number for what is not finite: such figures are left out."""
    if isinstance(figures, Mapping):
        found = {name: _finite(x) for name, x in figures.items()}
        return {name: x for name, x in found.items() if x is not None}
    if isinstance(figures, float | np.floating) and not math.isfinite(figures):
        return None
    return float(figures) if isinstance(figures, np.floating) else figures
