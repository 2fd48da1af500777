"""Frames that are drawn after the first ones, and what stands beside them."""

import types

import jax
import numpy as np
import pytest

from train.errors import BadInput
from train.evaluation import evaluator
from train.evaluation.crossings import forecasts as forecasting
from train.evaluation.crossings.forecasts import forecasts, moved
from train.modalities import Images, Video

CLIPS = Video("moving_actions", frames=9, size=32, digits=1, examples=160)


def test_a_blob_in_steady_motion_is_moved_on_exactly():
    clip = np.full((1, 8, 12, 12, 1), -1.0, np.float32)
    for f in range(8):
        clip[0, f, f : f + 3, 9 - f : 11 - f, 0] = np.linspace(0, 1, 6).reshape(3, 2)
    np.testing.assert_array_equal(moved(clip[:, :4], 4), clip[:, 4:])
    assert (moved(clip[:, :4], 40)[:, -1] == -1).all()  # out of the picture
    along = np.full((1, 2, 12, 12, 1), -1.0, np.float32)  # by one side alone
    along[0, 0, 5, 2] = along[0, 1, 5, 7] = 1
    for each in (along, along.swapaxes(2, 3)):
        assert (moved(each, 3) == -1).all()
    still = np.repeat(clip[:, :1], 3, 1)
    np.testing.assert_array_equal(moved(still, 2), still[:, :2])


HOW = {"steps": 3, "solver": {"video": "Heun", "boxes": "Confidence"}}


def model(causal=True):
    """One that "draws" the clip that it is given."""
    says = {} if causal is None else {"causal": causal}  # not all encoders have it
    encoder = types.SimpleNamespace(**says)
    codec = types.SimpleNamespace(module=types.SimpleNamespace(encoder=encoder))
    streams = {"video": types.SimpleNamespace(grid=(5, 4, 4))}
    seen = []

    def sampler(want, **how):
        if how.get("steps") == 0:
            raise ValueError("steps=0: write 1 or more")
        own = {"steps": 3, "solver": {"video": "Heun"}, "before": ()}
        assert want == "video" and how == own

        def draw(key, ids, given, known):
            seen.append((given["video"], known["video"]))
            return {"video": given["video"]}

        return draw

    found = types.SimpleNamespace(codecs={"video": codec}, streams=streams)
    found.sampler = sampler
    return found, seen


def test_nothing_of_the_later_frames_is_given():
    """So that a model that gives back what it is given is as good as the last frame."""
    found, seen = model()
    figures = forecasts(found, {"video": CLIPS}, {"video": 3}, num=12, **HOW)
    after = figures["video_after_3"]
    assert after["frames"] == 5 and after["examples"] == 12
    assert after["model"]["psnr_db"] == after["last"]["psnr_db"]
    low, high = after["last"]["psnr_db_interval"]
    assert 8 < low < after["last"]["psnr_db"] < high < 20
    assert after["linear"]["psnr_db"] > after["last"]["psnr_db"]
    (clip, known), *_ = seen
    np.testing.assert_array_equal(clip[:, 5:], np.repeat(clip[:, 4:5], 4, 1))
    assert known[0].tolist() == [True] * 3 + [False] * 2


def test_of_several_draws_it_is_their_mean():
    """Of a model whose draws are off the last frame by as much either way, that frame;
    its first draw is that of one alone."""
    found, seen = model()
    keys = []

    def sampler(want, **how):
        def draw(key, ids, given, known):
            keys.append(tuple(jax.random.key_data(key).tolist()))
            return {"video": given["video"] + (0.5 if len(keys) % 2 else -0.5)}

        return draw

    found.sampler = sampler
    of = lambda **how: forecasts(found, {"video": CLIPS}, {"video": 3}, num=12, **how)
    mean = of(draws=2)["video_after_3"]
    assert mean["model"]["psnr_db"] == pytest.approx(mean["last"]["psnr_db"])
    first, second = keys
    assert first != second
    assert first == (0, 0)
    one = of()["video_after_3"]
    assert keys[2:] == [first] and one["model"]["psnr_db"] < mean["model"]["psnr_db"]


@pytest.mark.parametrize(
    "causal, shown, message",
    [
        (True, {"video": 5}, "--shown.video=5 leaves nothing: write at most 4"),
        (True, {"word": 1}, "--shown.word=1: the streams are video"),
        (False, {"video": 3}, "--shown.video: write a stream of clips by a causal"),
        (None, {"video": 3}, "--shown.video: write a stream of clips by a causal"),
    ],
)
def test_what_cannot_be_gone_on_with_is_one_line(causal, shown, message):
    with pytest.raises(BadInput, match=message):
        forecasts(model(causal)[0], {"video": CLIPS}, shown)


def test_a_sampler_that_it_cannot_have_is_one_line():
    with pytest.raises(BadInput, match="steps=0: write 1 or more"):
        forecasts(model()[0], {"video": CLIPS}, {"video": 3}, steps=0)


def test_each_clip_counts_once_and_is_drawn_by_the_seed(monkeypatch):
    """Whatever fills the last batch up."""
    monkeypatch.setattr(evaluator, "CHUNK", 5)
    found, _ = model()
    keys, sampler = set(), found.sampler

    def noted(**how):
        draw = sampler(solver={"video": "Heun"}, **how)

        def call(key, ids, **more):
            keys.add(tuple(jax.random.key_data(key).tolist()))
            return draw(key, ids, **more)

        return call

    found.sampler = noted
    of = {"steps": 3, "seed": 6}
    figures = forecasts(found, {"video": CLIPS}, {"video": 3}, num=12, **of)
    assert figures["video_after_3"]["examples"] == 12 and keys == {(0, 6)}


def test_pictures_are_no_clips():
    with pytest.raises(BadInput, match="--shown.video: write a stream of clips"):
        forecasts(model()[0], {"video": Images()}, {"video": 3})


def test_what_a_clip_cannot_be_is_one_line(monkeypatch):
    def broken(*_):
        raise ValueError("frames are 5, and 9 are shown")
        yield

    monkeypatch.setattr(forecasting, "foreseen", lambda *_: {"video": (4, None)})
    monkeypatch.setattr(forecasting, "_guessed", broken)
    with pytest.raises(BadInput) as refusal:
        forecasts(None, {"video": CLIPS}, {"video": 9})
    assert str(refusal.value) == "frames are 5, and 9 are shown"
