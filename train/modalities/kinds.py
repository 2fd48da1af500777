"""The modality that the name of a kind of signal means."""

from typing import Any

from train.errors import BadInput
from train.modalities.modality import Modality


def of_contract(contract: Any) -> Modality:
    """The modality that prepares files as a bundle's contract says training did."""
    signal = (contract.shape[-1], contract.rate)
    return modality_of(contract.kind).of(*signal, **dict(contract.preparation))


def modalities() -> list[type[Modality]]:
    """All that there are, none before the one that it is derived from."""
    found: list[type[Modality]] = Modality.__subclasses__()
    for each in found:  # which grows meanwhile
        found += each.__subclasses__()
    return found


def modality_of(kind: str) -> type[Modality]:
    """The modality of this kind, the first where several say so; BadInput if none does.

    A class derived from it, or another one of that kind, takes its place nowhere.
    """
    found: dict[str, type[Modality]] = {}
    for each in modalities():
        if hasattr(each, "kind"):
            found.setdefault(each.kind, each)
    if kind not in found:
        known = ", ".join(sorted(found))
        raise BadInput(f"there is no modality {kind!r}; there are {known}")
    return found[kind]
