"""The source that an experiment's data names."""

from functools import partial

from train.modalities.modality import Modality
from train.sources import generated
from train.sources.arrays import digits, npz
from train.sources.catalogue import open_prepared
from train.sources.folder import open_folder
from train.sources.moving import moving
from train.sources.saved import open_saved
from train.sources.shards import open_shards
from train.sources.source import Source
from train.sources.strokes import strokes

# By name; any other is that of a prepared TFDS set.
SOURCES = {
    "folder": open_folder,
    "webdataset": open_shards,
    "huggingface": open_saved,
    "npz": npz,
    "digits": digits,
    "tones": generated.tones,
    "generated": partial(generated.Generated, make=generated.sensor_window),
    "phantoms": partial(generated.Generated, make=generated.noisy_phantom),
    "scenes": partial(generated.Generated, make=generated.street),
    "moving_digits": moving,
    "moving_mnist": moving,
    "mnist_strokes": strokes,
}


def open_source(data: Modality, train: bool) -> Source:
    """The training or the held-out part of the data's records; never empty.

    Raises BadInput, in one line, for whatever cannot be read.
    """
    own = data.source(train)
    return SOURCES.get(data.name, open_prepared)(data, train) if own is None else own
