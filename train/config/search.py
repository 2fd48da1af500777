"""Where a search looks for settings, and how it goes from some to others.

    SPACE = {
        "optimizer.peak_lr": Between(3e-4, 1e-2, log=True),
        "model.quantizer.dim": Choice((2, 4, 8, 16), ordered=True),
    }

Regularized evolution (Real et al., "Regularized Evolution for Image Classifier
Architecture Search", arXiv:1802.01548, algorithm 1): of the newest trials, whose
number is the population, some are drawn; what differs from the best of these by a
mutation is the next. Trials die of age, not of being bad, so that a lucky figure does
not stay for ever. Other than there none is drawn twice for one tournament, a mutation
may move several values, and no settings are trained again.
"""

import dataclasses
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from train.config.options.paths import ABSENT, children, written
from train.errors import BadInput
from vqdit.fields import Checked, Count, Finite, Natural, Seed, TwoOrMore

STEP = 0.2  # of a mutation of a number: standard deviation, of the way between the ends
DIGITS = 4  # of a number, so that it can be written; more where its ends share some
TRIES = 1000  # settings that are drawn until some fit and are new


@dataclasses.dataclass(frozen=True)
class Between(Checked):
    """A number between two ends, each of them as likely as any other; a whole one where
    both ends are.

    log: its logarithm is, as is right for a learning rate.
    """

    low: int | Finite
    high: int | Finite
    log: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.check("high", self.low < self.high, f"write more than low={self.low}")
        self.check(
            "low", not self.log or self.low > 0, "write more than 0, or log=False"
        )

    @property
    def ends(self) -> tuple[Any, Any]:
        """Values that stand for all others where it is asked whether they fit."""
        return self.low, self.high

    def draw(self, rng: np.random.Generator) -> int | float:
        return self._at(rng.uniform())

    def near(self, value: Any, rng: np.random.Generator) -> int | float:
        """A normal step from there, reflected at the ends; from what is outside, from
        the end. What is no number, such as None or a Ramp, is left for any."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self.draw(rng)
        low, high = self._bounds
        inside = min(max(value, self.low), self.high)
        place = (self._scaled(inside) - low) / (high - low)
        place = (place + STEP * rng.normal()) % 2
        return self._at(2 - place if place > 1 else place)

    @property
    def _bounds(self) -> tuple[float, float]:
        # Of whole numbers the ends have as much to both sides as all others.
        half = 0.5 if self._whole else 0.0
        return self._scaled(self.low - half), self._scaled(self.high + half)

    @property
    def _whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def _digits(self) -> int:
        """Of 0.999 to 0.9999 four would leave ten numbers, the ends half as likely."""
        size, width = max(abs(self.low), abs(self.high)), self.high - self.low
        return DIGITS + math.floor(math.log10(max(size / width, 1)))

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else float(value)

    def _at(self, place: float) -> int | float:
        low, high = self._bounds
        x = low + place * (high - low)
        x = math.exp(x) if self.log else x
        x = round(x) if self._whole else float(f"{x:.{self._digits}g}")
        return min(max(x, self.low), self.high)


@dataclasses.dataclass(frozen=True)
class Choice(Checked):
    """One of some values, each as likely.

    ordered: a mutation takes the one before or the one after, else any other.
    """

    options: tuple[Any, ...]
    ordered: bool = False

    def __post_init__(self):
        super().__post_init__()
        several = isinstance(self.options, tuple) and len(self.options) > 1
        alike = several and any(
            x in self.options[:i] for i, x in enumerate(self.options)
        )
        self.check(
            "options", several and not alike, "write two values, or more, once each"
        )

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.options

    def draw(self, rng: np.random.Generator) -> Any:
        return self.options[rng.integers(len(self.options))]

    def near(self, value: Any, rng: np.random.Generator) -> Any:
        if value not in self.options:
            return self.draw(rng)
        at = self.options.index(value)
        others = [i for i in range(len(self.options)) if i != at]
        if self.ordered:
            others = [i for i in others if abs(i - at) == 1]
        return self.options[others[rng.integers(len(others))]]


Space = Mapping[str, Between | Choice]


@dataclasses.dataclass(frozen=True)
class Trial(Checked):
    """One training of a search.

    settings: what it changes in the experiment. value: its figure, and `step` that of
    the best; None where it has none, and `failed` says why.
    """

    settings: dict[str, Any]
    value: Finite | None = None
    step: Natural = 0
    failed: str = ""

    def __post_init__(self):
        super().__post_init__()
        by_field = isinstance(self.settings, dict)
        self.check("settings", by_field, "write values by field")
        self.check("failed", isinstance(self.failed, str), "write a text")


@dataclasses.dataclass(frozen=True)
class Evolution(Checked):
    """Regularized evolution.

    population: the newest so many trials may be parents. Of the first so many one is
        the experiment as it is, and the others are drawn: where no more are trained it
        is a random search.
    tournament: trials that are drawn, the best of which is the parent.
    seed: of all that is drawn.
    """

    population: TwoOrMore = 8
    tournament: Count = 3
    seed: Seed = 0

    def __post_init__(self):
        super().__post_init__()
        fits = self.tournament <= self.population
        self.check("tournament", fits, f"write at most population={self.population}")

    def following(
        self,
        trials: Sequence[Trial],
        space: Space,
        sign: int,
        fits: Callable[[dict[str, Any]], object],
    ) -> dict[str, Any]:
        """What the next one changes: a function of the trials so far, and the seed; not
        of the order in which the space is written.

        sign: 1 where the smallest value is best, -1 where the largest is. fits: raises
        BadInput for settings that do not go together; others are drawn then, in the end
        from anywhere: all that is near the parents may have been tried. Raises BadInput
        where none are found that are new and fit.
        """
        rng = np.random.default_rng((self.seed, len(trials)))
        tried = [trial.settings for trial in trials]
        why = "all settings of the space were tried"
        for n in range(TRIES):
            if len(trials) < self.population or n >= TRIES // 2:
                drawn = {path: space[path].draw(rng) for path in sorted(space)}
                found = {path: drawn[path] for path in space}
            else:
                found = self._mutated(self._parent(trials, sign, rng), space, rng)
            if found in tried:
                continue
            try:
                fits(found)
            except BadInput as error:
                why = str(error)
                continue
            return found
        raise BadInput(f"of {TRIES} settings none is new and fits; {why}")

    def _parent(self, trials, sign, rng) -> dict[str, Any]:
        living = trials[-self.population :]
        chosen = rng.choice(len(living), self.tournament, replace=False)
        cost = lambda m: math.inf if m.value is None else sign * m.value
        return min((living[i] for i in chosen), key=cost).settings

    def _mutated(self, settings, space, rng) -> dict[str, Any]:
        """Each value with a chance of one in so many; where none moves these settings
        were tried, and others are drawn."""
        moved = rng.uniform(size=len(space)) < 1 / len(space)
        found = dict(settings)
        for path, move in zip(sorted(space), moved, strict=True):
            if move:
                each, known = space[path], path in settings
                found[path] = (
                    each.near(settings[path], rng) if known else each.draw(rng)
                )
        return found


def held_by(experiment: Any, space: Space) -> dict[str, Any]:
    """The experiment's own values of what is searched; without those that it has not,
    as entries of a dict may be that a mutation adds."""
    found: dict[str, Any] = {}
    for path in space:
        value = experiment
        for name in path.split("."):
            value = (children(value) or {}).get(name, ABSENT)
        if value is not ABSENT:
            found[path] = value
    return found


def as_options(settings: dict[str, Any]) -> str:
    """As one writes them on a command line."""
    texts = {path: shlex.quote(written(value)) for path, value in settings.items()}
    return " ".join(f"--config.{path}={text}" for path, text in texts.items())
