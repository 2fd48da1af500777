"""evaluation.json: what was measured of a bundle, and of its crossings the newest.

A crossing stays in the file when others are measured, with how it was "asked" and the
"seal" of the bundle that all are of.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.progress import say
from vqdit.trained.bundle import read_json

Figures = dict[str, Any]

# What is done where nothing is asked.
DRAWN_BY = {"steps": 50, "shift": 1.0, "interval": (0.0, 1.0), "solver": None}
DEFAULTS = {"num": 1000, "seed": 0, "draws": 1, "score_draws": 8}


def how_asked(
    flags: Mapping[str, Any], sampler: Sequence[str], changes: Mapping[str, str]
) -> Figures:
    """How crossings were measured: by name, and in a "sampler" that of what draws, as
    `evaluate_generator` writes it.

    flags, changes: of the command. sampler: names of the flags that are of it.
    """
    drawn = DRAWN_BY | {name: flags[name] for name in sampler if name in flags}
    rest = {n: x for n, x in flags.items() if n not in (*sampler, "crossings", "want")}
    asked = DEFAULTS | {"guidance": None} | rest
    if changes:
        asked["config"] = dict(changes)
    return asked | {"sampler": {name: str(x) for name, x in drawn.items()}}


def with_kept(
    path: Path, seal: str | None, figures: Figures, asked: Figures
) -> Figures:
    """Figures with the crossings that the file holds of the same bundle beside those
    that were measured now, of which each was `asked` so. Of a bundle without a seal, or
    a file that does not say one or cannot be read, nothing is kept."""
    figures = _finite(figures)
    new, old = figures.get("crossings", {}), _kept(path, seal)
    crossings = {name: each for name, (each, _) in old.items()} | new
    if not crossings:
        return figures
    how = {name: each for name, (_, each) in old.items()} | dict.fromkeys(new, asked)
    return figures | {"crossings": crossings, "asked": how, "seal": seal}


def comparable(figures: Figures) -> Figures:
    """Without the crossings of some examples, or of other data, which no bar means."""
    asked = figures.get("asked", {})
    some = {name for name, how in asked.items() if {"among", "config"} & {*how}}
    each = figures.get("crossings", {}).items()
    return figures | {"crossings": {n: x for n, x in each if n not in some}}


def _finite(found: Any) -> Any:
    """With None for what is no finite number, of which JSON has none."""
    if isinstance(found, Mapping):
        return {name: _finite(each) for name, each in found.items()}
    if isinstance(found, list | tuple):
        return [_finite(each) for each in found]
    if isinstance(found, float) and not math.isfinite(found):
        return None
    return found


def _kept(path: Path, seal: str | None) -> dict[str, tuple[Any, Any]]:
    """Crossing -> (its figures, how it was asked); it says where there are others."""
    try:
        found = read_json(path)
        if not found.get("crossings"):
            return {}
        if seal is not None and found.get("seal") == seal:
            crossings, asked = found["crossings"], found["asked"]
            return {name: (each, asked[name]) for name, each in crossings.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    say(
        f"{path.name} is of another bundle or version, or broken: its crossings are "
        "not kept"
    )
    return {}
