"""What a config file does not write is what it was when the file was written."""

import dataclasses

import pytest

from train.config import (
    SGD,
    Adafactor,
    AdamW,
    Adversarial,
    KMeansInit,
    Mesh,
    Muon,
    Optimizer,
    Reconstructions,
    Run,
    Samples,
    StageOne,
    StageTwo,
    Stream,
    Weights,
)
from train.modalities import Images
from vqdit.diffusion import Gaussian, Mixture, Uniform

ADAM = {
    "peak_lr": 1e-4,
    "schedule": "constant",
    "warmup": 0,
    "b1": 0.9,
    "b2": 0.999,
    "weight_decay": 0.0,
    "clip": 1.0,
    "cooldown": 0,
    "rule": None,
    "decay": "kernel$",
    "rates": (),
}
OFF = dict.fromkeys(("init", "adversarial", "kmeans"))
BOTH = {"data": Images(), "optimizer": Optimizer(), "mesh": Mesh()}


@pytest.mark.parametrize(
    "kind, expected",
    [
        (Mesh, {"data": -1, "fsdp": 1, "tensor": 1}),
        (
            Run,
            {"seed": 0, "log_every": 50, "save_every": 500, "keep": 3}
            | {"sample_every": 0, "wandb": "", "heldout_every": 0, "best": ""}
            | {"evaluate": None},
        ),
        (AdamW, ADAM),
        (Optimizer, ADAM | {"accumulate": 1, "ema": 0.9999}),
        (Adafactor, {"decay": 0.8, "factored": 128}),
        (Muon, {"momentum": 0.95, "nesterov": True, "iterations": 5}),
        (SGD, {"momentum": 0.9, "nesterov": False}),
        (
            Adversarial,
            {"start": 0, "ramp": 0, "loss": "hinge", "weight": 0.8, "adaptive": True}
            | {"last": "decoder/conv_out/kernel", "features": 0.0, "lecam": 0.0}
            | {"optimizer": AdamW()},
        ),
        (KMeansInit, {"step": 200, "samples": 4096, "iterations": 25}),
        (StageOne, BOTH | OFF | {"losses": Weights()}),
        (
            Weights,
            {"pixel": "l2", "reconstruction": 1.0, "stft": 0.0, "mel": 0.0}
            | {"windows": (64, 256, 1024), "lpips": None, "features": None}
            | {"perceptual": 1.0, "quantizer": {}},
        ),
        (
            Stream,
            {"process": Gaussian(), "tokenizer": None, "times": Uniform(), "patch": 1}
            | {"weight": 1.0, "start": "normal", "solver": None, "shape": ()}
            | {"codes": 0},
        ),
        (
            StageTwo,
            {**BOTH, "join": "index", "init": None, "cache": None}
            | {"label_dropout": 0.1, "mixture": Mixture(), "balance": False}
            | {"bars": ()},
        ),
        (Reconstructions, {"most": 512}),
        (
            Samples,
            {"num": 500, "steps": 25, "guidance": None, "judge": None}
            | {"copies": False, "seed": 0},
        ),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_what_is_not_written_means_what_it_meant(kind, expected):
    found = {}
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    assert found == expected
