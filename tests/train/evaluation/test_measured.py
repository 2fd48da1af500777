"""evaluation.json keeps what was measured before of the same bundle."""

import inspect
import json

import pytest

from tests import toys
from train.evaluation.crossings.crossings import crossings
from train.evaluation.crossings.forecasts import forecasts
from train.evaluation.measured import comparable, how_asked, solvers_of, with_kept
from train.evaluation.scores import evaluate_generator
from vqdit import Discrete, Generator, Masking
from vqdit.diffusion import Confidence, Heun, Unmask


def test_a_figure_that_is_no_number_loses_nothing(tmp_path, capsys):
    """JSON has none for it: it is written as null, and the rest stays readable."""
    path = tmp_path / "evaluation.json"
    first = {"crossings": {"a_to_b": {"model": {"psnr_db": float("inf"), "mse": 0.5}}}}
    found = with_kept(path, "s", first, {"a_to_b": {"num": 3}})
    assert found["crossings"]["a_to_b"]["model"] == {"psnr_db": None, "mse": 0.5}
    path.write_text(json.dumps(found, allow_nan=False))
    both = with_kept(path, "s", {"crossings": {"b_to_a": {}}}, {"b_to_a": {"num": 4}})
    assert both["crossings"].keys() == {"a_to_b", "b_to_a"}
    assert both["asked"] == {"a_to_b": {"num": 3}, "b_to_a": {"num": 4}}
    assert not capsys.readouterr().err


@pytest.mark.parametrize("text", ['{"crossings": {"a_to_b": {}}}', '{"crossings": '])
def test_what_is_not_kept_is_told(tmp_path, capsys, text):
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    found = with_kept(path, "s", {"crossings": {"b_to_a": {}}}, {"b_to_a": {}})
    assert found["crossings"].keys() == {"b_to_a"}
    assert "its crossings are not kept" in capsys.readouterr().err


def test_bars_take_no_crossing_of_some_examples_or_of_other_data():
    crossings = {"a_to_b": {"model": 1}, "b_to_a": {"model": 2}, "a_to_c": {"model": 3}}
    asked = {"a_to_b": {}, "b_to_a": {"among": "_x_"}, "a_to_c": {"config": {"x": "1"}}}
    found = comparable({"crossings": crossings, "asked": asked, "seal": "s"})
    assert found["crossings"] == {"a_to_b": {"model": 1}}


def test_how_crossings_were_asked_is_written_with_all_that_was_not():
    """What draws as text; and nothing of which crossings these are."""
    flags = {"num": 7, "steps": 3, "crossings": True, "want": None, "baselines": True}
    flags |= {"guidance": (2.0,), "interval": (0.2, 0.8)}
    drawn = {"steps": 3, "interval": (0.2, 0.8), "solver": {"b": Heun()}}
    found = how_asked(flags, drawn, {"join": "class"}, guided=True)
    said = {"steps": "3", "shift": "1.0", "interval": "(0.2, 0.8)"}
    said["solver"] = "{'b': Heun()}"
    default = {"seed": 0, "draws": 1, "score_draws": 8}
    asked = {"num": 7, "baselines": True, "config": {"join": "class"}}
    assert found == default | asked | {"guidance": (2.0,), "sampler": said}
    # What nothing guides has no scale, nor times of one.
    found = how_asked(flags, drawn, {}, guided=False)
    assert found["guidance"] is None
    assert found["sampler"] == said | {"interval": "(0.0, 1.0)"}
    said |= {"steps": "50", "interval": "(0.0, 1.0)", "solver": "None"}
    found = how_asked({}, {}, {}, guided=True)
    assert found == default | {"num": 1000, "guidance": None, "sampler": said}


def test_a_solver_is_what_is_written_or_the_streams_own_or_the_plain_one():
    """As the sampler has it."""
    own = {"b": Confidence(), "c": Confidence(temperature=2.0)}
    streams = [Discrete(name, (1,), 11) for name in "abc"]
    made = toys.generator(streams, dict.fromkeys("abc", Masking()), {})
    made = Generator(made.module, made.params, made.processes, {}, solvers=own)
    for written in (None, {"c": Unmask()}, {"a": Confidence(), "b": Unmask()}):
        used = solvers_of(made, "abc", written)
        assert used == made.sampler(solver=written).solvers
        assert solvers_of(made, "b", written) == {"b": used["b"]}
    assert solvers_of(made, "abc", Unmask()) == Unmask()


def test_of_what_has_no_seal_nothing_is_kept(tmp_path, capsys):
    path, old = tmp_path / "evaluation.json", {"crossings": {"a_to_b": {}}}
    path.write_text(json.dumps(old | {"seal": None, "asked": {"a_to_b": {}}}))
    new = with_kept(path, None, {"crossings": {"b_to_a": {}}}, {"b_to_a": {"num": 3}})
    assert new == {"crossings": {"b_to_a": {}}, "asked": {"b_to_a": {"num": 3}}} | {
        "seal": None
    }
    assert "evaluation.json is of another bundle" in capsys.readouterr().err
    # Figures of no crossing are as they are, but for what JSON has not.
    empty = tmp_path / "new.json"
    assert with_kept(empty, "s", {"x": [1, float("nan")]}, {}) == {"x": [1, None]}


@pytest.mark.parametrize("function", [evaluate_generator, crossings, forecasts])
def test_what_is_written_of_who_asks_nothing_is_what_is_done(function):
    """Flags that are left out are the functions' own: the file says other ones of none
    of them."""
    asked = how_asked({}, {}, {}, guided=True)
    own = {
        name: each.default
        for name, each in inspect.signature(function).parameters.items()
        if name in ("num", "seed", "draws", "score_draws")
    }
    assert own["num"] == 1000 and own["seed"] == 0
    assert own == {name: asked[name] for name in own}
