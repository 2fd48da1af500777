"""The source that an experiment's data names."""

import dataclasses
from functools import partial

from train.errors import BadInput
from train.modalities.modality import Modality
from train.sources import generated, patients
from train.sources.arrays import digits, npz
from train.sources.catalogue import open_prepared
from train.sources.driving import driving, faults
from train.sources.folder import open_folder
from train.sources.moving import moving, moving_actions, moving_events
from train.sources.rows import open_rows
from train.sources.saved import open_saved
from train.sources.shards import open_shards
from train.sources.share import Share
from train.sources.source import Source
from train.sources.strokes import strokes

# What is made on the fly, by name, as these fields of the data say.
MADE = {
    "generated": partial(generated.Generated, make=generated.sensor_window),
    "phantoms": partial(generated.Generated, make=generated.noisy_phantom),
    "patients": patients.patients,
    "planted_patients": patients.planted,
    "scenes": partial(generated.Generated, make=generated.street),
    "moving_digits": moving,
    "moving_mnist": moving,
    "digit_strokes": strokes,
    "mnist_strokes": strokes,
    "moving_actions": moving_actions,
    "moving_events": moving_events,
    "driving": driving,
    "driving_faults": faults,
}
OF_MADE = ("examples", "seed", "noise", "missing", "spikes", "digits")
# What is read; any other name is that of a prepared TFDS set.
SOURCES = MADE | {
    "folder": open_folder,
    "webdataset": open_shards,
    "huggingface": open_saved,
    "npz": npz,
    "table": open_rows,
    "digits": digits,
    "tones": generated.tones,
}


def open_source(data: Modality, train: bool) -> Source:
    """The training or the held-out part of the data's records; never empty.

    Raises BadInput, in one line, for whatever cannot be read.
    """
    found = data.source(train)
    if found is None:
        _refuse_unused(data)
        found = SOURCES.get(data.name, open_prepared)(data, train)
    return Share(found, data.share) if train and data.share < 1 else found


def _refuse_unused(data: Modality) -> None:
    """Raises BadInput for what says how data are made, of data that are read."""
    for field in dataclasses.fields(data) if data.name not in MADE else ():
        value = getattr(data, field.name)
        if field.name in OF_MADE and value != field.default:
            raise BadInput(
                f"data.{field.name}={value!r} is of generated data, and {data.name!r} "
                f"is read; write {field.default!r}, the default"
            )
