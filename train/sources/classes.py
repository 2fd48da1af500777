"""Labels that are numbers: as many classes as the largest asks for."""

from collections.abc import Iterable

from train.errors import BadInput

MOST_CLASSES = 10**6  # that an index is believed to be one of
# A set of so many classes may have an example of few of them; one of more is numbered
# otherwise where fewer than one in so many has any.
FEW_CLASSES, ONE_IN = 2**16, 10


def refuse_sparse(labels: Iterable[int], where: str) -> None:
    """Raises BadInput where the numbers are no classes' but identities, say, or times:
    each class, with an example or without, has a row of weights."""
    values = set(labels)
    largest = max(values, default=-1)
    if largest >= max(FEW_CLASSES, ONE_IN * len(values)):
        raise BadInput(
            f"{where}: label goes to {largest}, and {len(values)} values are "
            f"different, so that nearly all of {largest + 1:,} classes would be empty; "
            "number them anew, np.unique(label, return_inverse=True)[1], or leave "
            "label out"
        )
