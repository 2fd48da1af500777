"""Classes of labels: by their names, or as many as the largest number asks for."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from train.errors import BadInput
from train.modalities.files.limits import MOST_CLASSES
from train.modalities.files.stored import natural

# A set of so many classes may have an example of few of them; one of more is numbered
# otherwise where fewer than one in so many has any.
FEW_CLASSES, ONE_IN = 2**16, 10
CAPTIONS = ("caption", "text")  # features of a set that hold one


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


def one_of(found: Sequence[str], *names: str) -> str:
    """Of these features the first of such a name, else the only one, else ""."""
    named = [name for name in names if name in found]
    return next(iter(named or (found if len(found) == 1 else [])), "")


def labelled(
    labels: Sequence[Any], where: Callable[[int], object]
) -> tuple[Sequence[int], tuple[str, ...]]:
    """(class numbers, -1 where nothing has one; class names) of class names, or of
    numbers, also such as 3.0; an empty one is none. `where` names a row."""
    labels = [
        int(label) if type(label) is float and label.is_integer() else label
        for label in (None if label == "" else label for label in labels)
    ]
    bare = [i for i, label in enumerate(labels) if label is None]
    if len(bare) == len(labels):
        return [-1] * len(labels), ()
    if bare:
        raise BadInput(f"{where(bare[0])}: no label, though others have one")
    if all(type(label) is str for label in labels):
        names = tuple(sorted(set(labels), key=natural))
        number = {name: i for i, name in enumerate(names)}
        return [number[label] for label in labels], names
    for i, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < MOST_CLASSES:
            raise BadInput(
                f"{where(i)}: label {label!r:.100}; write every label as a name, or "
                "every one as an index"
            )
    refuse_sparse(labels, str(where(max(range(len(labels)), key=labels.__getitem__))))
    return labels, tuple(map(str, range(max(labels) + 1)))
