"""A workdir of pictures by a tokenizer, their names and their digits, untrained."""

from pathlib import Path

import vqdit
from tests import toys
from tests.train.experiments import of_values
from train.config.workdir import save_config
from train.modalities import Images
from vqdit import Continuous, Discrete, Gaussian, Generator, Masking
from vqdit.tokenizer import Bytes, Labels

NAMES = ("nil", "one", "two", "três", "four", "five", "six", "seven", "eight", "nine")
DATA = Images(name="digits", size=4, channels=1, words=NAMES)
VALUES = {"name": Bytes(5), "digit": Labels(10)}


def workdir_of(folder: Path) -> Path:
    """Its model has classes, and knows nothing of threes."""
    streams = [
        Continuous("image", (2, 2), 2),
        Discrete("name", (5,), 257),
        Discrete("digit", (1,), 11),
    ]
    processes = {"image": Gaussian(), "name": Masking(), "digit": Masking()}
    tokenizers = {"image": toys.codec(), **VALUES}
    made = toys.generator(streams, processes, tokenizers, classes=10)
    made = Generator(made.module, made.params, processes, tokenizers, untrained=(3,))
    vqdit.save(folder / "bundle", made)
    values = {"image": "tok", **VALUES}
    save_config(of_values("asked", DATA, values), folder / "config.json")
    return folder
