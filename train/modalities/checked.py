"""Settings that check themselves when they are made."""

import dataclasses
from typing import ClassVar, Literal, get_args, get_origin

from train.errors import BadInput


class Checked:
    """A frozen dataclass that refuses a field's value in one line.

    called: what stands before the field's name there, as on a command line. A field
    that is annotated as a Literal is one of its words.
    """

    called: ClassVar[str]

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if get_origin(field.type) is Literal:
                words = get_args(field.type)
                known = getattr(self, field.name) in words
                self.check(field.name, known, f"write {' or '.join(words)}")

    def check(self, field: str, allowed: object, advice: str) -> None:
        """Raises BadInput for a value that is not allowed; advice: what to write."""
        if not allowed:
            value = getattr(self, field)
            raise BadInput(f"{self.called}.{field}={value!r}: {advice}")

    def at_least(self, **least: float) -> None:
        """Refuses numbers below the least that each field may be."""
        for field, low in least.items():
            self.check(field, getattr(self, field) >= low, f"write at least {low}")
