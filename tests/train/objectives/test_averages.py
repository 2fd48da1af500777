"""Both stages average the weights as the experiment says."""

import pytest

from tests.train.experiments import JOINT, TOKENIZER
from train.config.network import network
from train.config.override import replaced
from train.objectives import start, streams


def stage_one(experiment):
    return start.build_step(experiment, start.Start(None, {}, {}, False))


def stage_two(experiment):
    return streams.build_step(experiment, *network(experiment, {}))


@pytest.mark.parametrize(
    "module, build, experiment",
    [(start, stage_one, TOKENIZER), (streams, stage_two, JOINT)],
    ids=["tokenizer", "generator"],
)
def test_a_step_is_made_with_the_decay_that_is_asked_for(
    module, build, experiment, monkeypatch
):
    given = []
    monkeypatch.setattr(module, "make_step", lambda *of, **_: given.extend(of))
    build(replaced(experiment, {"optimizer.ema": 0.125}))
    assert given[2] == 0.125
