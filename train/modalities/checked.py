"""Settings that check themselves when they are made."""

from typing import ClassVar

from train.errors import BadInput
from vqdit import fields


class Checked(fields.Checked):
    """A dataclass whose fields hold what they may; else BadInput says what to write.

    called: what stands before the field's name there, as on a command line.
    """

    called: ClassVar[str]

    def __post_init__(self):
        try:
            super().__post_init__()
        except ValueError as error:
            said = str(error).removeprefix(type(self).__name__)
            raise BadInput(self.called + said) from None

    def check(self, field: str, allowed: object, advice: str) -> None:
        """Refuses a field that is not allowed beside the others; advice: what to do."""
        if not allowed:
            value = getattr(self, field)
            raise BadInput(f"{self.called}.{field}={value!r}: {advice}")
