"""Classifier and detector: what each layer sees, and what their answers are."""

import jax
import jax.numpy as jnp
import numpy as np

from tests import toys
from vqdit.features import Classifier
from vqdit.features.detector import Detector


def test_features_are_the_layer_before_its_activation():
    """Two convolutions of stride 2 on 8 x 8 leave 2 x 2 x 4; the first is 5 wide."""
    net, x = Classifier(3, (2, 4), dim=5), jnp.ones((2, 8, 8, 1))
    variables = toys.drawn(net, x)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert {name: each["kernel"] for name, each in shapes.items()} == {
        "conv_0": (5, 5, 1, 2),
        "conv_1": (3, 3, 2, 4),
        "features": (2 * 2 * 4, 5),
        "logits": (5, 3),
    }
    features, logits = jax.jit(net.apply)(variables, x)
    last = variables["params"]["logits"]
    expected = jax.nn.gelu(features) @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    assert (features < -0.2).any() and Classifier(3, (2,)).dim == 64


def test_boxes_of_a_picture_and_of_numbers_lie_within_it():
    """Edges are the center less and plus half a side, cut at the border."""
    net = Detector(2, 3, (("image", (2, 2)), ("row", ())), dim=6)
    x = {"image": jnp.linspace(-1, 1, 128).reshape(2, 8, 8, 1), "row": jnp.ones((2, 4))}
    variables = toys.drawn(net, x)
    # What is said of the boxes alone: classes 3 and "no box", then center and size.
    boxes = variables["params"]["boxes"]
    assert boxes["kernel"].shape == (6, 2 * (3 + 1 + 4))
    center, side = (
        np.array([[0.5, 0.25], [0.9, 0.1]]),
        np.array([[0.2, 0.4], [0.4, 0.1]]),
    )
    logit = lambda p: np.log(p) - np.log1p(-p)
    said = np.concatenate([np.arange(8.0).reshape(2, 4), logit(center), logit(side)], 1)
    fixed = {"kernel": 0 * boxes["kernel"], "bias": said.reshape(-1)}
    params = {"params": {**variables["params"], "boxes": fixed}}
    both = jax.jit(lambda a, b: (net.apply(a, x), net.apply(b, x)))
    (logits, edges), (free, _) = both(params, variables)
    np.testing.assert_allclose(logits, [np.arange(8.0).reshape(2, 4)] * 2)
    expected = [[0.4, 0.05, 0.6, 0.45], [0.7, 0.05, 1.0, 0.15]]
    np.testing.assert_allclose(edges, [expected] * 2, atol=1e-6)
    assert free.shape == (2, 2, 4) and abs(free[0] - free[1]).max() > 1e-4
    assert Detector(1, 1, ()).dim == 256


def test_a_frame_sees_those_beside_it_and_a_picture_is_in_every_frame():
    net = Detector(1, 1, (("clip", (2,)), ("image", (2,))), frames=5, dim=4)
    clip, image = jnp.ones((1, 5, 4, 4, 1)), jnp.ones((1, 4, 4, 1))
    variables = toys.drawn(net, {"clip": clip, "image": image})
    run = jax.jit(lambda c, i: net.apply(variables, {"clip": c, "image": i})[0])
    plain = run(clip, image)
    assert plain.shape == (1, 5, 1, 2)
    moved = abs(run(clip.at[0, 0].set(-1.0), image) - plain).max((0, 2, 3))
    assert (moved[:2] > 1e-5).all() and (moved[2:] < 1e-6).all()
    moved = abs(run(clip, -image) - plain).max((0, 2, 3))
    assert (moved > 1e-5).all()
