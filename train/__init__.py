"""The effects: everything that touches disk, clock, devices or argv.

`train/*.py` are the programs. Every class that the rooms below import is also a name
here, and it is under this name that files store it: `train.Images`.
"""

import importlib
import os
import sys

from train.errors import importing

# `python -m train.X` is called so until X is found, and `vqdit` from first to last.
if os.path.basename(sys.argv[0]) in ("-m", "vqdit"):
    importing()

_ROOMS = ("config", "modalities")


def __getattr__(name):
    for classes in map(_classes, _ROOMS):
        if name in classes:
            return classes[name]
    raise AttributeError(f"train has no {name!r}")


def __dir__():
    return set().union(*map(_classes, _ROOMS))


def _classes(room):
    module = importlib.import_module(f"train.{room}")
    public = {name: getattr(module, name) for name in module.__all__}
    return {name: value for name, value in public.items() if isinstance(value, type)}
