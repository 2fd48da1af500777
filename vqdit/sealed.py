"""JSON in files that anybody may have written: bounded, and sealed by a hash of itself.

The seal is of the values, not of their spelling, and shows that a file is not what was
written. It is no signature: whoever means to can seal another.
"""

import hashlib
import json
from typing import Any

SEAL = "seal"
LARGEST = 2**24  # bytes of a file; its values take some thirty times as much memory


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """The content with its seal, all as JSON would give it back."""
    content = json.loads(json.dumps(content))
    return content | {SEAL: _seal(content)}


def opened(content: Any, needed: bool = False) -> dict[str, Any]:
    """A dict without its seal.

    needed: whether it has to have one; files of 0.1.0 have none. Raises ValueError for
    what is no dict, and for another seal than the content's.
    """
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, and no fields by name")
    content = dict(content)
    seal = content.pop(SEAL, None)
    if seal is None and needed:
        raise ValueError("it has no seal: something was taken out of it")
    if seal is not None and seal != _seal(content):
        raise ValueError("it is not what was written (its seal differs)")
    return content


def parsed(text: bytes) -> Any:
    """The values of JSON; raises ValueError, in one line, for anything else."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error


def _seal(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")
