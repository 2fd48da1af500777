"""`--config.model.depth=24`: an experiment with some of its fields changed."""

import functools
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from train.config.experiment import StageOne, StageTwo
from train.config.options.expression import parse_value
from train.config.options.walk import Edits, walk
from train.config.weights import USUAL
from train.errors import BadInput

T = TypeVar("T")
# Paths up to 0.1.0, of a stream of stage two and of a loss of stage one's quantizer.
MOVED = {
    StageTwo: (
        (r"tokenizers\.([^.]+)", r"streams.\1.tokenizer"),
        (r"processes\.([^.]+)(.*)", r"streams.\1.process\2"),
        (r"times\.([^.]+)(.*)", r"streams.\1.times\2"),
        (r"tokenizers|processes|times", "a field of each stream: streams.NAME"),
    ),
    StageOne: (
        (rf"losses\.({'|'.join(USUAL)})", r"losses.quantizer.\1"),
        (
            r"losses\.entropy_(end|steps)",
            "losses.quantizer.entropy='Ramp(START, END, STEPS)'",
        ),
    ),
}


def overrides(experiment: T, texts: Mapping[str, str]) -> T:
    """overrides(experiment, {"model.depth": "24"}) -> a new experiment.

    All at once, so that values that depend on each other change together; a whole and
    its parts may both be given: the parts apply to the new whole. Raises BadInput for a
    path that does not exist, naming the nearest that does, and for a text that does not
    fit the field's type, saying what to write.
    """
    for dotted in texts:
        for old, new in MOVED.get(type(experiment), ()):
            if re.fullmatch(old, dotted):
                raise BadInput(f"{dotted} is now {re.sub(old, new, dotted)}")
    edits: Edits = [
        (dotted.split("."), functools.partial(parse_value, text))
        for dotted, text in texts.items()
    ]
    return walk(experiment, type(experiment), "", edits, experiment)


def replaced(value: T, fields: Mapping[str, Any]) -> T:
    """The value with others at these dotted paths, all at once: {"run.batch": 32}."""
    held = lambda new: lambda *_: new
    edits: Edits = [(at.split("."), held(new)) for at, new in fields.items()]
    return walk(value, type(value), "", edits, value)
