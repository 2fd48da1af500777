"""Workdirs of pictures, and of words and digits beside them, of drawn weights."""

from pathlib import Path

import vqdit
from tests import toys
from tests.train.experiments import of_values
from train.config import Run, StageOne, Weights
from train.config.workdir import save_config
from train.modalities import Images
from vqdit import Continuous, Discrete, Gaussian, Generator, Masking
from vqdit.tokenizer import Bytes, Labels

NAMES = ("nil", "one", "two", "três", "four", "five", "six", "seven", "eight", "nine")
DATA = Images(name="digits", size=4, channels=1, words=NAMES)
VALUES = {"name": Bytes(5), "digit": Labels(10)}


def workdir_of(folder: Path) -> Path:
    """Of pictures by a tokenizer, their names and their digits; a model with classes,
    that knows nothing of threes."""
    streams = [
        Continuous("image", (2, 2), 2),
        Discrete("name", (5,), 257),
        Discrete("digit", (1,), 11),
    ]
    processes = {"image": Gaussian(), "name": Masking(), "digit": Masking()}
    tokenizers = {"image": toys.codec(), **VALUES}
    made = toys.generator(streams, processes, tokenizers, classes=10)
    how = {"untrained": (3,), "parts": ("image", "name")}
    made = Generator(made.module, made.params, processes, tokenizers, **how)
    vqdit.save(folder / "bundle", made)
    values = {"image": "tok", **VALUES}
    save_config(of_values("asked", DATA, values), folder / "config.json")
    return folder


def generator_of(folder: Path, classes: int) -> Path:
    """Of two pictures by tokenizers, a word, and codes that have no tokenizer."""
    pictures = ("image", "photo")
    streams = [Continuous(name, (2, 2), 2) for name in pictures]
    streams += [Discrete("word", (1,), 11), Discrete("code", (3,), 5)]
    processes = dict.fromkeys(pictures, Gaussian())
    processes |= {"word": Masking(), "code": Masking(5)}
    tokenizers = dict.fromkeys(pictures, toys.codec()) | {"word": Labels(10)}
    made = toys.generator(streams, processes, tokenizers, classes=classes)
    vqdit.save(folder / "bundle", made)
    values = dict.fromkeys(pictures, "tok") | {"word": Labels(10), "code": None}
    save_config(of_values("drawn", DATA, values), folder / "config.json")
    return folder


def tokenizer_of(folder: Path) -> Path:
    """Trained to please a judge."""
    codec = toys.codec()
    fields = {"run": Run(2, 2), "losses": Weights(features="runs/judge")}
    experiment = StageOne(name="tok", data=DATA, model=codec.module, **fields)
    vqdit.save(folder / "bundle", codec)
    save_config(experiment, folder / "config.json")
    return folder
