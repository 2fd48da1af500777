"""The source that an experiment's data names."""

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from train.errors import BadInput
from train.modalities.audio import Audio
from train.modalities.modality import Modality
from train.modalities.range import Ranges
from train.modalities.rows import Tables
from train.modalities.series import Series
from train.modalities.video import Video
from train.modalities.volume import Volumes
from train.progress import say
from train.sources.arrays import digits, open_npz
from train.sources.catalogue import open_prepared
from train.sources.folder import open_folder
from train.sources.generated import patients, signals
from train.sources.generated.driving import SENSORS, driving, faults
from train.sources.generated.moving import moving, moving_actions, moving_events
from train.sources.generated.strokes import strokes
from train.sources.rows import open_rows
from train.sources.saved import open_saved
from train.sources.shards import open_shards
from train.sources.share import Portion
from train.sources.source import Source

Opener = Callable[[Any, bool], Source]
# Of each name the kinds of signal that it is of, and what opens it as such.
# What is made on the fly, as fields of the data say.
MADE: dict[str, dict[type[Modality], Opener]] = {
    "generated": {Series: partial(signals.Generated, make=signals.sensor_window)},
    "phantoms": {Volumes: partial(signals.Generated, make=signals.noisy_phantom)},
    "patients": {Volumes: patients.patients},
    "planted_patients": {Volumes: patients.planted},
    "scenes": {Ranges: partial(signals.Generated, make=signals.street)},
    "moving_digits": {Video: moving},
    "moving_mnist": {Video: moving},
    "digit_strokes": {Series: strokes},
    "mnist_strokes": {Series: strokes},
    "moving_actions": {Video: moving_actions},
    "moving_events": {Video: moving_events},
    "driving": {kind: partial(driving, sensor) for kind, sensor in SENSORS.items()},
    "driving_faults": {kind: partial(faults, has) for kind, has in SENSORS.items()},
}
# By name; any other is that of a prepared TFDS set.
SOURCES: dict[str, dict[type[Modality], Opener]] = MADE | {
    "folder": {Modality: open_folder},
    "webdataset": {Modality: open_shards},
    "huggingface": {Modality: open_saved},
    "npz": {Modality: open_npz},
    "table": {Tables: open_rows},
    "digits": {Modality: digits},
    "tones": {Audio: signals.tones},
}
# However many parts and programs open the data.
_say_once = cache(say)


# What is read from no folder: made here, or brought by a package.
HERE = MADE.keys() - {"moving_mnist", "mnist_strokes"} | {"digits", "tones"}


def open_source(data: Modality, train: bool) -> Source:
    """The training or the held-out part of the data's records; never empty.

    Raises BadInput, in one line, for whatever cannot be read.
    """
    found = data.source(train)
    if found is None:
        _tell_unused(data)
        if data.data_dir and data.name in HERE:
            raise BadInput(
                f"data.data_dir={data.data_dir}: {data.name!r} is made without files, "
                f"and none would be read; write data.name=folder too, or leave it out"
            )
        found = opener(data)(data, train)
    return Portion(found, data.share) if train and data.share < 1 else found


def opener(data: Modality) -> Opener:
    """What opens the source that the data name.

    Raises BadInput for a source of other kinds of signal.
    """
    kinds = SOURCES.get(data.name, {Modality: open_prepared})
    for kind, found in kinds.items():
        if isinstance(data, kind):
            return found
    raise BadInput(
        f"data.name={data.name!r}: is of {' or '.join(of.kind for of in kinds)}, the "
        f"data is {data.kind}; write another source"
    )


def _tell_unused(data: Modality) -> None:
    """A line of what says how data are made, where they are read. It is no error: runs
    of a shipped experiment on files of one's own have such fields."""
    fields = [field for field in dataclasses.fields(data) if field.name in data.made]
    found = [(field, getattr(data, field.name)) for field in fields]
    unused = [f"data.{f.name}={x!r}" for f, x in found if x != f.default]
    if unused and data.name not in MADE:
        _say_once(f"{', '.join(unused)}: of generated data, and {data.name!r} is read")
