"""The effects: everything that touches disk, clock, devices or argv.

`train/*.py` are the programs. Every class in `__all__` of the rooms below is also a
name here, and it is under this name that files store it: `train.Images`.
"""

import importlib

_ROOMS = ("config", "modalities")


def __getattr__(name):
    if name[:1].isupper():
        for room in _ROOMS:
            module = importlib.import_module(f"train.{room}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"train has no {name!r}")
