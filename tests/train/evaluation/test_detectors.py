"""Detectors beside a crossing into boxes, on boxes that are planted."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.evaluation.crossings import detectors as module
from train.evaluation.crossings import rivals
from train.evaluation.crossings.answers import Answer
from train.evaluation.crossings.detectors import Detectors, cost, generalized_overlap
from train.evaluation.evaluator import evaluated
from vqdit.tokenizer import Boxes

pytestmark = pytest.mark.optimized


def figures(boxes, said, truth):
    batch = {"said": said, "truth": truth, "index": np.arange(len(truth))}
    batch |= {"there": np.ones(len(truth), bool)}
    found = {}
    for each in Answer("s", None, boxes).evaluators():
        found |= evaluated(each, [batch])
    return found


def planted(count, seed, frames=1):
    """Pictures (n, frames, 8, 8, 1) of up to two bright or dark blocks, one on the left
    and one on the right in either order, and their boxes (n, frames, 2, 5)."""
    draw = np.random.default_rng(seed)
    x = draw.integers(120, 136, (count, frames, 8, 8, 1), dtype=np.uint8)
    true = np.tile(np.float32([0, 0, 0, 0, -1]), (count, frames, 2, 1))
    for at in np.ndindex(count, frames):
        half = draw.integers(0, 2)
        for slot in range(draw.integers(0, 3)):
            left, top = (
                4 * ((half + slot) % 2) + draw.integers(0, 2),
                draw.integers(0, 6),
            )
            kind = draw.integers(0, 2)
            x[at][top : top + 3, left : left + 3] = 255 * kind
            edges = np.array([left, top, left + 3, min(top + 3, 8)]) / 8
            true[at][slot] = (*edges, kind)
    return x, true


def trained_on(boxes, streams, true, known=None, threads=0):
    """A training part of these, which counts how often it is read."""
    codes = boxes.encode(true)[..., None]
    shapes = {n: types.SimpleNamespace(shape=x.shape[1:]) for n, x in streams.items()}

    class Train(types.SimpleNamespace):
        __len__ = lambda self: len(true)
        read = 0

        def take(self, rows):
            self.read += 1
            every = streams | {"boxes": codes}
            batch = {"streams": {n: x[rows] for n, x in every.items()}, "known": {}}
            return batch | ({} if known is None else {"known": {"boxes": known[rows]}})

    for each in shapes.values():
        each.threads = threads
    return Train(data=shapes, has=lambda rows, name: rows >= 0)


@pytest.mark.slow
def test_boxes_that_are_planted_are_found_in_either_order():
    boxes = Boxes(2, bins=64, classes=2)
    (x, true), (held, truth) = planted(2000, 0), planted(300, 1)
    x, true, held, truth = (each[:, 0] for each in (x, true, held, truth))
    train = trained_on(boxes, {"photo": x}, true)
    rivals = Detectors(train, ("photo",), "boxes", boxes, {}, steps=150).fit()
    # One shows how wide it is; then all are read, once, and held in memory.
    assert {*rivals} == {"pca", "cnn"} and train.read == 2
    of = {}
    for who, rival in rivals.items():
        said = rival.says({"streams": {"photo": held}})
        assert said.shape == truth.shape and said.dtype == np.float32
        of[who] = figures(boxes, said, truth)
    assert of["cnn"]["iou"] > 0.6 and of["cnn"]["map"] > 0.6
    assert of["pca"]["iou"] < of["cnn"]["iou"] - 0.2
    budget = rivals["cnn"].budget["networks"]["photo"]
    seconds = budget.pop("seconds")
    assert 0 < seconds < 600 and budget.pop("parameters") > 10_000
    assert budget == {"examples": 2000, "steps": 150, "batch": 128}
    assert rivals["pca"].budget.keys() == {"examples", "seconds"}


@pytest.mark.slow
def test_a_clip_has_boxes_of_each_frame_and_what_is_born_discrete_helps(monkeypatch):
    """A word says the class, which the clip does not; and what does not fit in memory
    is read as it is needed."""
    boxes = Boxes(2, bins=64, classes=2, frames=2)
    (x, true), (held, truth) = planted(1500, 0, 2), planted(100, 1, 2)
    for clip, each in ((x, true), (held, truth)):
        each[..., 4] = np.where(
            each[..., 4] < 0, -1, (np.arange(len(each)) % 2)[:, None, None]
        )
        clip[clip < 100] = 255
    streams = {"clip": x, "word": np.arange(1500)[:, None, None] % 2}
    monkeypatch.setattr(rivals, "VALUES", 900 * (2 * 64 + 2))
    train = trained_on(boxes, streams, true)
    found = Detectors(train, tuple(streams), "boxes", boxes, {"word": 2}, 150).fit()
    assert train.read > 150
    assert found["pca"].budget["examples"] == 900
    budget = found["cnn"].budget["networks"]["clip+word"]
    assert budget["examples"] == 1500
    given = {"clip": held, "word": np.arange(100)[:, None, None] % 2}
    said = found["cnn"].says({"streams": given})
    assert figures(boxes, said, truth)["map"] > 0.6
    # The other word is the other class, in the same places.
    other = found["cnn"].says({"streams": given | {"word": 1 - given["word"]}})
    there = (said[..., 4] >= 0) & (other[..., 4] >= 0)
    assert np.mean(said[..., 4][there] != other[..., 4][there]) > 0.9


def test_of_words_alone_there_is_no_network_and_unknown_boxes_teach_nothing():
    boxes = Boxes(1, bins=4, classes=2)
    word = np.arange(60)[:, None, None] % 2
    left = [0.125, 0.125, 0.375, 0.375, 0]
    true = np.array([[left if i % 2 else [0, 0, 0, 0, -1]] for i in range(60)])
    known = np.ones(60)
    true[40:], known[40:] = [0.625, 0.625, 0.875, 0.875, 1], 0
    train = trained_on(boxes, {"word": word}, true, known)
    rivals = Detectors(train, ("word",), "boxes", boxes, {"word": 2}).fit()
    assert {*rivals} == {"pca"} and rivals["pca"].budget["examples"] == 40
    said = rivals["pca"].says({"streams": {"word": word[:2]}})
    np.testing.assert_allclose(said[:, 0], [[0, 0, 0, 0, -1], left], atol=1e-3)


def test_each_box_that_is_said_counts_as_the_cheapest_true_one():
    """Whatever their order; of what is not there the edges do not matter."""
    true = jnp.array(
        [[0.1, 0.1, 0.3, 0.4, 0], [0.6, 0.5, 0.9, 0.9, 1], [0, 0, 0, 0, -1]]
    )
    logits = 20 * jnp.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    edges = jnp.array(
        [[0.6, 0.5, 0.9, 0.9], [0.2, 0.7, 0.3, 0.8], [0.1, 0.1, 0.3, 0.4]]
    )
    assert cost(logits, edges, true) == pytest.approx(0, abs=1e-3)
    assert cost(logits, edges, true[::-1]) == pytest.approx(0, abs=1e-3)
    moved = edges.at[2].add(jnp.array([0.1, 0, 0.1, 0]))
    far = 5 * 0.2 + 2 * (1 - 0.5 / 1.5)  # half of it is where it should be
    np.testing.assert_allclose(cost(logits, moved, true), far, rtol=1e-3)
    # Of five there are too many orders.
    five = jnp.tile(true[:1], (5, 1)).at[:, 0].set(jnp.arange(5) / 50)
    said = jnp.tile(logits[2], (5, 1))
    assert cost(said, five[:, :4], five) == pytest.approx(0, abs=1e-3)
    assert cost(said, five[::-1, :4], five) > 1


def test_a_box_that_has_no_area_has_a_gradient():
    """As one has that a network makes as small as it can, beside one that is absent."""
    logits, true = jnp.zeros((1, 3)), jnp.array([[0.0, 0, 0, 0, -1]])
    for box in true, jnp.array([[0.2, 0.2, 0.4, 0.4, 0]]):
        slope = jax.grad(lambda edges, box=box: cost(logits, edges, box))
        for edges in jnp.zeros((1, 4)), jnp.full((1, 4), 0.3), box[:, :4]:
            found = np.abs(slope(edges))
            assert np.isfinite(found).all() and found.max() < 1e3
            assert found.any() == (box[0, 4] >= 0) or (edges == box[:, :4]).all()


def test_boxes_that_do_not_meet_are_the_worse_the_further_apart_they_are():
    box = jnp.array([0.0, 0, 0.5, 0.5])
    assert generalized_overlap(box, box) == pytest.approx(1, abs=1e-5)
    near, far = (box + jnp.array([x, 0, x, 0]) for x in (0.5, 1.5))
    np.testing.assert_allclose(generalized_overlap(box, near), 0, atol=1e-5)
    np.testing.assert_allclose(generalized_overlap(box, far), -0.5, rtol=1e-5)


def test_a_network_sees_frames_slices_and_codes_as_it_takes_them():
    boxes = Boxes(1, bins=4, classes=2, frames=2)
    of = Detectors(None, ("clip", "scan", "word"), "boxes", boxes, {"word": 3})
    draw = np.random.default_rng(0)
    clip, scan = (
        draw.integers(0, 256, (3, n, 8, 16, 1), dtype=np.uint8) for n in (2, 5)
    )
    word = np.array([0, 2, 1])[:, None, None]
    found = of._signals({"clip": clip, "scan": scan, "word": word})
    assert [*found] == ["clip", "scan", "word"]
    np.testing.assert_allclose(found["clip"], clip / 127.5 - 1, atol=1e-6)
    slices = np.moveaxis(scan[..., 0], 1, -1)
    np.testing.assert_allclose(found["scan"], slices / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(found["word"], np.eye(3)[[0, 2, 1]])
    widths = [module._widths(x) for x in found.values()]
    assert widths == [(32, 64), (32, 64), ()]


@pytest.mark.parametrize("frames", [(), (2,)])
def test_a_detector_learns_what_is_known_and_says_the_likeliest(frames, monkeypatch):
    """A network that sees nothing, whose numbers go by the rate at each step: half of
    the examples have one box of two, of the others nothing is known. Clips do not fit
    in memory."""
    made, ended = [], []

    class Blind:
        def __init__(self, *of):
            made.append(of)

        def init(self, key, signals):
            return {"params": {"logits": jnp.zeros((2, 3)), "edges": jnp.zeros((2, 4))}}

        def apply(self, variables, signals):
            lead = (len(signals["photo"]), *frames)
            logits, edges = (variables["params"][name] for name in ("logits", "edges"))
            return (
                jnp.broadcast_to(logits, (*lead, 2, 3)),
                jnp.broadcast_to(jax.nn.sigmoid(edges), (*lead, 2, 4)),
            )

    wait = jax.block_until_ready
    keep = lambda params: ended.append(params) or wait(params)
    monkeypatch.setattr(module, "Detector", Blind)
    monkeypatch.setattr(module.jax, "block_until_ready", keep)
    monkeypatch.setattr(rivals, "VALUES", 40 * 2 * 64)
    boxes = Boxes(2, bins=8, classes=2, frames=sum(frames))
    shape = (80 if frames else 40, *frames, 8, 8, 1)
    photo = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    some = np.arange(len(photo)) < len(photo) // 2
    pair = np.float32([[0, 0, 1, 1, 1], [0, 0, 0, 0, -1]])
    true = np.tile(pair, (len(photo), *frames, 1, 1))
    true[~some, ..., 4] = 0
    train = trained_on(boxes, {"photo": photo}, true, some)
    rival = Detectors(train, ("photo",), "boxes", boxes, {}, steps=40).fit()["cnn"]
    assert made == [(2, 2, (("photo", (32, 64)),), sum(frames))]
    # One for its columns, and all, or for components, for shapes and at each step.
    assert train.read == (43 if frames else 2)
    rate = [0, 5e-4, *(5e-4 * (1 + np.cos(np.pi * np.arange(38) / 38)))]
    logits = np.asarray(ended[0]["logits"]) / sum(rate)
    np.testing.assert_allclose(logits, [[-1, 1, -1], [-1, -1, 1]], rtol=0.02)
    said = rival.says({"streams": {"photo": photo[:3]}})
    assert said.shape == (3, *frames, 2, 5)
    assert (said[..., 0, 4] == 1).all() and (said[..., 1, 4] == -1).all()
    assert (said[..., 0, 2:4] > 0.5).all() and (said[..., 0, :2] < 0.5).all()
    assert not said[..., 1, :4].any()
    budget = rival.budget["networks"]["photo"]
    assert 0 <= budget.pop("seconds") < 60
    size = 64 if frames else 128
    count = {"examples": len(photo), "steps": 40, "batch": size, "parameters": 14}
    assert budget == count
