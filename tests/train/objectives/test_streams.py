"""What stage two opens, and its streams as files of old have them."""

import numpy as np

from tests.train.experiments import JOINT
from train.config.network import network
from train.config.override import replaced
from train.objectives.streams import on_grid
from vqdit.diffusion import Gaussian, Masking, Uniform
from vqdit.values import build, describe


def test_a_latent_is_known_where_anything_of_its_block_is():
    known = np.zeros((2, 4, 6, 2), np.float32)
    known[0, 3, 4, 1] = 1
    found = np.asarray(on_grid(known, (2, 3)))
    assert found.shape == (2, 2, 3)
    assert np.argwhere(found).tolist() == [[0, 1, 2]]
    # A grid that is no grid of blocks: the example as a whole.
    assert np.asarray(on_grid(known, (3, 3))).tolist() == [True, False]
    assert np.asarray(on_grid(known, (7,))).tolist() == [True, False]


def test_an_experiment_of_old_becomes_this_one():
    """Its four dictionaries by stream, as 0.1.0 wrote them."""
    now = describe(JOINT)
    old = {"class": "train.config.StageTwo", "fields": dict(now["fields"])}
    del old["fields"]["streams"]
    process = describe(Masking(32))
    streams = [
        {"name": "image", "grid": [4, 4], "channels": 4, "patch": 2, "outputs": 1},
        {"name": "text", "grid": [6], "vocab": 32, "books": 1},
    ]
    kinds = ("vqdit.dit.Continuous", "vqdit.dit.Discrete")
    old["fields"]["model"] = {
        "class": "vqdit.dit.DiT",
        "fields": now["fields"]["model"]["fields"]
        | {
            "streams": [
                {"class": kind, "fields": fields}
                for kind, fields in zip(kinds, streams, strict=True)
            ]
        },
    }
    uniform = describe(Uniform())
    old["fields"] |= {
        "processes": {"dict": {"image": describe(Gaussian()), "text": process}},
        "times": {"dict": {"image": uniform, "text": uniform}},
        "tokenizers": {"dict": {"image": "runs/image", "text": "runs/text"}},
    }
    assert build(old, ("vqdit", "train")) == JOINT


def test_a_process_is_fit_for_what_the_stream_says():
    model, processes = network(JOINT, {})
    assert [stream.name for stream in model.streams] == ["image", "text"]
    assert processes["text"].vocab == 32 and model.streams[0].patch == 2
    learned = replaced(
        JOINT, {"streams.image.process": Gaussian(learned_variance=True)}
    )
    assert network(learned, {})[0].streams[0].outputs == 2
