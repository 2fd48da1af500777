"""What of examples can be told of their features."""

import pytest

from train.errors import BadInput
from train.evaluation.targets import labelled_parts
from train.modalities import Volumes


def test_a_row_of_a_table_is_no_class():
    """It is entries by their columns, and refused as what examples do not carry is."""
    data = Volumes("patients", size=(4, 4, 4), examples=16, threads=0)
    for name in ("row", "nothing"):
        with pytest.raises(BadInput, match=f"--target={name}: write .* of label$"):
            labelled_parts(data, name)
    assert labelled_parts(data, "label")[2]["classes"] == ["0", "1", "2"]
