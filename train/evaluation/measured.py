"""evaluation.json: what was measured of a bundle, and of its crossings the newest.

A crossing stays in the file when others are measured, with how it was "asked" and the
"seal" of the bundle that all are of.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from train.evaluation.drawing import SAMPLER
from train.modalities.files.writing import finite
from train.progress import say
from vqdit.diffusion import Plain, Solver
from vqdit.trained.bundle import read_json
from vqdit.trained.generator import Generator

Figures = dict[str, Any]

# What is done where nothing is asked.
DRAWN_BY = {"steps": 50, "shift": 1.0, "interval": (0.0, 1.0), "solver": None}
DEFAULTS = {"num": 1000, "seed": 0, "draws": 1, "score_draws": 8}


def solvers_of(
    generator: Generator, drawn: Iterable[str], written: Any
) -> Solver | dict[str, Solver]:
    """What streams are drawn by, as `Generator.sampler` has it: what is written, of all
    or of each, else the stream's own, else the plain one of its process."""
    if isinstance(written, Solver):
        return written
    own = {**generator.solvers, **(written or {})}
    return {name: own.get(name) or Plain() for name in drawn}


def how_asked(
    flags: Mapping[str, Any],
    sampler: Mapping[str, Any],
    changes: Mapping[str, str],
    guided: bool,
) -> Figures:
    """How a crossing was measured: by name, and in a "sampler" that of what draws, as
    `evaluate_generator` writes it.

    flags, changes: of the command; of the fields those that change figures. sampler:
    what of it is of the sampler, as this crossing was drawn. guided: whether by the
    scales of the command.
    """
    drawn = DRAWN_BY | dict(sampler)
    if not guided:
        drawn["interval"] = DRAWN_BY["interval"]
    others = (*SAMPLER, "crossings", "want", "guidance")
    rest = {name: x for name, x in flags.items() if name not in others}
    asked = DEFAULTS | rest | {"guidance": flags.get("guidance") if guided else None}
    if changes:
        asked["config"] = dict(changes)
    return asked | {"sampler": {name: str(x) for name, x in drawn.items()}}


def with_kept(
    path: Path, seal: str | None, figures: Figures, asked: Mapping[str, Figures]
) -> Figures:
    """Figures with the crossings that the file holds of the same bundle beside those
    that were measured now, and how each by its name was `asked`. Of a bundle without a
    seal, or a file that does not say one or cannot be read, nothing is kept."""
    figures = finite(figures)
    new, old = figures.get("crossings", {}), _kept(path, seal)
    crossings = {name: each for name, (each, _) in old.items()} | new
    if not crossings:
        return figures
    how = {name: each for name, (_, each) in old.items()}
    how |= {name: asked[name] for name in new}
    return figures | {"crossings": crossings, "asked": how, "seal": seal}


def comparable(figures: Figures) -> Figures:
    """Without the crossings of some examples, or of other data, which no bar means."""
    asked = figures.get("asked", {})
    some = {name for name, how in asked.items() if {"among", "config"} & {*how}}
    each = figures.get("crossings", {}).items()
    return figures | {"crossings": {n: x for n, x in each if n not in some}}


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
