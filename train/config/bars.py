"""What an experiment is to reach, as sentences about its figures."""

import operator
import re
from collections.abc import Mapping
from typing import Any

from train.errors import BadInput

SIGNS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
MORE = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def sides(bar: str) -> tuple[str, str, str]:
    """(figure, sign, what it is compared with). Raises BadInput for what is no bar."""
    words = re.split(r" (>=|<=|>|<) ", bar)
    if len(words) != 3 or not all(words):
        raise BadInput(
            f"bars: {bar!r}; write such as 'audio_to_word accuracy >= 0.95', with >=, "
            "<=, > or < between two figures or numbers"
        )
    figure, sign, other = words
    return figure, sign, other


def met(bar: str, figures: Mapping[str, Any]) -> tuple[bool | None, Any, Any]:
    """(whether it is, and the two values); None where a figure was not measured.

    figures: of `train.evaluate`. One of a crossing is written as "a_to_b accuracy" or,
    of another than the model, "a_to_b cnn accuracy", one of samples as it is called.
    A side may be a figure and a number, "a_to_b cnn accuracy - 0.03". Of several scales
    of guidance the best counts.
    """
    left, sign, right = sides(bar)
    best = max if sign in (">", ">=") else min
    found = [_values(side, figures) for side in (left, right)]
    mine, other = (best(x) if x else None for x in found)
    if mine is None or other is None:
        return None, mine, other
    return bool(SIGNS[sign](mine, other)), mine, other


def _values(side: str, figures: Mapping[str, Any]) -> list[float]:
    try:
        return [float(side)]
    except ValueError:
        pass
    if more := re.fullmatch(r"(.+) ([-+*]) (\S+)", side):
        change, by = MORE[more[2]], _values(more[3], figures)
        return [change(x, by[0]) for x in _values(more[1], figures)] if by else []
    name, *rest = side.split()
    crossing = figures.get("crossings", {}).get(name)
    if crossing is None:
        tables = [figures, figures.get("real", {}), *figures.get("curve", ())]
        found = [table.get(side) for table in tables]
    elif len(rest) == 2:
        found = [crossing.get(rest[0], {}).get(rest[1])]
    else:
        model = {w: x for w, x in crossing.items() if w.startswith(("model", "guid"))}
        found = [x.get(" ".join(rest)) for x in model.values()] if rest else []
    return [x for x in found if isinstance(x, int | float)]
