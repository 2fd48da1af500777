"""The effects: everything that touches disk, clock, devices or argv.

`train/*.py` are the programs. Every class that the rooms below import is also a name
here, and it is under this name that files store it: `train.Images`.
"""

import importlib

_ROOMS = ("config", "modalities")


def __getattr__(name):
    if name[:1].isupper():
        for room in _ROOMS:
            found = getattr(importlib.import_module(f"train.{room}"), name, None)
            if isinstance(found, type):
                return found
    raise AttributeError(f"train has no {name!r}")
