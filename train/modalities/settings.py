"""Settings of data: what they may not hold is bad input."""

from train.errors import BadInput
from vqdit import fields


class DataSettings(fields.Checked):
    """`called` is what stands before a field's name on a command line."""

    refusal = BadInput
