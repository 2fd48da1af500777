"""Evolutionary search: where it looks, and how it goes on from what it found."""

import math

import numpy as np
import pytest

from train.config.search import (
    Between,
    Choice,
    Evolution,
    Trial,
    as_options,
    held_by,
)
from train.errors import BadInput

MANY = 4000
SPACE = {
    "rate": Between(1e-4, 1e-1, log=True),
    "depth": Between(1, 12),
    "kind": Choice(("a", "b", "c")),
}


def drawn(each, seed=0):
    rng = np.random.default_rng(seed)
    return [each.draw(rng) for _ in range(MANY)]


def near(each, value, seed=0):
    rng = np.random.default_rng(seed)
    return [each.near(value, rng) for _ in range(MANY)]


def test_numbers_are_even_between_their_ends():
    found = np.array(drawn(Between(-1.0, 3.0)))
    assert found.min() >= -1 and found.max() <= 3
    assert abs(found.mean() - 1) < 4 * (4 / math.sqrt(12)) / math.sqrt(MANY)
    decades = np.log10(drawn(Between(1e-4, 1e-1, log=True)))
    counts, _ = np.histogram(decades, bins=[-4, -3, -2, -1])
    assert np.all(np.abs(counts / MANY - 1 / 3) < 0.03)


def test_numbers_can_be_written_down():
    """Four digits, so that a command trains the same."""
    assert all(float(f"{x:.4g}") == x for x in drawn(Between(1e-4, 0.1, log=True)))
    # Ends that have more are not left for it.
    ends = Between(0.123456, 0.123459)
    assert all(0.123456 <= x <= 0.123459 for x in drawn(ends)[:50])


def test_a_narrow_range_has_as_many_numbers_as_a_wide_one():
    """Such as that of a decay, whose first digits are the same everywhere."""
    found = drawn(Between(0.999, 0.9999))
    assert len(set(found)) > MANY / 2 and {len(str(x)) for x in found} <= {
        *range(5, 10)
    }
    shares, _ = np.histogram(found, bins=10, range=(0.999, 0.9999))
    np.testing.assert_allclose(shares / MANY, 0.1, atol=0.03)


def test_whole_numbers_have_equal_shares():
    found = drawn(Between(3, 6))
    assert {type(x) for x in found} == {int}
    shares = np.bincount(found, minlength=7) / MANY
    np.testing.assert_allclose(shares[3:], 0.25, atol=0.03)
    assert not shares[:3].any() and set(drawn(Between(1, 64, log=True))) <= {
        *range(1, 65)
    }
    assert {type(x) for x in drawn(Between(1.0, 2))} == {float}


def test_a_step_is_a_fifth_of_the_way_and_stays_inside():
    wide = np.array(near(Between(0.0, 1000.0), 500.0))
    assert abs(wide.mean() - 500) < 15 and abs(wide.std() - 200) < 20
    # Reflected: none comes to lie on the end itself, as a cut would put them there.
    low = np.array(near(Between(0.0, 1000.0), 0.0))
    assert low.min() > 0 and abs(low.mean() - 200 * math.sqrt(2 / math.pi)) < 10
    high = np.array(near(Between(0.0, 1000.0), 1000.0))
    assert high.max() < 1000 and abs(high.mean() - 840) < 10
    # In decades of a logarithm, and from outside as from the end.
    steps = np.log10(near(Between(1e-4, 1.0, log=True), 1e-2)) + 2
    assert abs(steps.std() - 0.8) < 0.08 and abs(steps.mean()) < 0.06
    assert near(Between(0.0, 1000.0), -70.0) == low.tolist()
    rate = Between(1e-4, 1.0, log=True)  # 0 has no logarithm
    assert near(rate, 0.0) == near(rate, -1.0) == near(rate, 1e-4)
    assert near(rate, math.inf) == near(rate, 5) == near(rate, 1.0)


@pytest.mark.parametrize("value", [None, "auto", (1, 2), True])
def test_from_what_is_no_number_a_step_goes_anywhere(value):
    """A field may hold None, or a Ramp, in the experiment as it is."""
    each = Between(1, 4)
    shares = np.bincount(near(each, value), minlength=5) / MANY
    np.testing.assert_allclose(shares, [0, 0.25, 0.25, 0.25, 0.25], atol=0.03)


def test_whole_numbers_step_to_either_side_alike_and_to_the_ends():
    found = np.array(near(Between(1, 9), 5))
    assert set(found) == {*range(1, 10)} and {type(x) for x in found.tolist()} == {int}
    # A normal step of 0.2 of nine, rounded.
    assert abs(found.mean() - 5) < 0.1 and abs(found.std() - 1.8) < 0.15
    powers = Between(1, 64, log=True)
    shares = np.bincount(drawn(powers), minlength=65) / MANY
    wide = math.log(64.5 / 0.5)
    np.testing.assert_allclose(shares[1], math.log(1.5 / 0.5) / wide, atol=0.03)
    assert shares[64] < 0.01


def test_a_choice_moves_to_another_or_to_a_neighbour():
    options = ("a", "b", "c", "d")
    assert set(drawn(Choice(options))) == set(options)
    assert set(near(Choice(options), "b")) == {"a", "c", "d"}
    assert set(near(Choice(options, ordered=True), "b")) == {"a", "c"}
    assert set(near(Choice(options, ordered=True), "a")) == {"b"}
    assert set(near(Choice(options), "of before")) == set(options)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Between(1, 1), "Between.high=1: write more than low=1"),
        (lambda: Between(0.0, 1.0, log=True), "Between.low=0.0: write more than 0"),
        (lambda: Between(0.0, math.inf), "Between.high=inf"),
        (lambda: Choice(("a",)), "Choice.options=.*write two values, or more"),
        (lambda: Choice(("a", "a")), "Choice.options=.*once each"),
        (lambda: Evolution(3, 4), "Evolution.tournament=4: write at most population=3"),
        (lambda: Evolution(1), "Evolution.population=1"),
    ],
)
def test_what_is_no_place_to_look_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def following(trials, evolution, sign=1, fits=lambda _: None, space=SPACE):
    return evolution.following(trials, space, sign, fits)


def changed(new, old):
    return {path for path in SPACE if new[path] != old[path]}


def test_the_first_are_drawn_and_later_ones_are_children_of_the_best():
    evolution = Evolution(population=4, tournament=4)
    trials = [Trial({"rate": 1e-2, "depth": 6, "kind": "a"}, 3.0)]
    for value in (1.0, 0.0, 2.0):
        trials.append(Trial(following(trials, evolution), value))
    assert len({x.settings["rate"] for x in trials}) == 4
    best = trials[2].settings
    for seed in range(20):
        child = following(trials, Evolution(4, 4, seed))
        assert 0 < len(changed(child, best)) and child != trials[0].settings
    # Of whole numbers and choices a child has what the best has, if it did not move.
    fixed = [following(trials, Evolution(4, 4, seed)) for seed in range(60)]
    assert sum(each["rate"] == best["rate"] for each in fixed) > 20


def parents(trials, evolution, sign, times=300):
    """How often each trial was the parent of a next one, by its kind, which stays."""
    space = {"x": Between(0.0, 1.0)}
    found = {}
    for n in range(times):
        # Trials that are too old to be parents say which number the next one has.
        of = [Trial({"kind": "old"}, -sign * 99.0)] * n + trials
        child = following(of, evolution, sign, space=space)
        found[child["kind"]] = found.get(child["kind"], 0) + 1
    return found


@pytest.mark.parametrize("sign", [1, -1])
def test_the_parent_is_the_best_of_those_drawn(sign):
    """Of four, two are drawn: the best is in half of the pairs and always wins, the
    second in half and wins a third of all, the third in one of six; the last never."""
    values = [sign * x for x in (1.0, 2.0, 3.0)]
    trials = [
        Trial({"kind": k, "x": 0.5}, v) for k, v in zip("abc", values, strict=True)
    ]
    trials.append(Trial({"kind": "failed", "x": 0.5}, failed="it diverged"))
    found = parents(trials, Evolution(4, 2), sign)
    assert set(found) == set("abc")
    np.testing.assert_allclose(
        [found[k] / 300 for k in "abc"], [1 / 2, 1 / 3, 1 / 6], atol=0.09
    )


def test_one_value_in_so_many_moves_and_one_at_least():
    """Of three each with a chance of a third: given that one does, 27 / 19 do."""
    space = {name: Between(0.0, 1.0) for name in "abc"}
    base, counts = dict.fromkeys(space, 0.5), []
    for n in range(400):
        child = following([Trial(base, 1.0)] * (2 + n), Evolution(2, 1), space=space)
        counts.append(sum(child[name] != 0.5 for name in space))
    assert min(counts) == 1 and abs(np.mean(counts) - 27 / 19) < 0.12


def test_the_same_search_goes_the_same_way_and_another_seed_another():
    trials = [Trial({"rate": 1e-2, "depth": 6, "kind": "a"}, 1.0)]
    one, again = (following(trials, Evolution(seed=3)) for _ in range(2))
    assert one == again != following(trials, Evolution(seed=4))
    assert one != following(trials * 2, Evolution(seed=3))
    back = dict(reversed(SPACE.items()))
    assert following(trials, Evolution(seed=3), space=back) == one
    child = following(trials * 9, Evolution(seed=3))
    assert following(trials * 9, Evolution(seed=3), space=back) == child


def test_what_does_not_fit_or_was_tried_is_drawn_again():
    def odd(settings):
        if settings["depth"] % 2 == 0:
            raise BadInput("depth is even")

    trials = [Trial({"rate": 1e-2, "depth": 6, "kind": "a"}, 1.0)]
    for n in range(30):
        assert following(trials * (n + 1), Evolution(2, 1), fits=odd)["depth"] % 2
    few = {"kind": Choice(("a", "b"))}
    first = [Trial({"kind": "a"}, 1.0)]
    assert following(first, Evolution(), space=few) == {"kind": "b"}
    both = [*first, Trial({"kind": "b"}, 2.0)]
    with pytest.raises(
        BadInput, match="none is new and fits; all settings of the space"
    ):
        following(both, Evolution(), space=few)
    with pytest.raises(BadInput, match="none is new and fits; it never does"):
        following(first, Evolution(), fits=lambda _: never())


@pytest.mark.parametrize("population", [2, 8])
def test_what_is_far_from_all_parents_is_found_too(population):
    """The neighbours of those that live were all tried, and others are left."""
    space = {"depth": Choice(tuple(range(32)), ordered=True)}
    for seed in range(5):
        trials = [Trial({"depth": 5}, 0.0)]
        while len(trials) < 32:
            evolution = Evolution(population, 2, seed)
            found = following(trials, evolution, space=space)
            trials.append(Trial(found, abs(found["depth"] - 5.0)))
        assert {each.settings["depth"] for each in trials} == {*range(32)}


def never():
    raise BadInput("it never does")


def test_it_finds_a_valley_sooner_than_chance_does():
    """A bowl over four fields, the least at (1e-3, 8, "c", 0.7): the best of 60 of
    evolution beside the best of 60 that are drawn, in 30 searches of each."""
    space = SPACE | {"share": Between(0.0, 1.0)}

    def cost(settings):
        decades = math.log10(settings["rate"] / 1e-3)
        off = (settings["depth"] - 8) / 4, settings["share"] - 0.7
        return decades**2 + off[0] ** 2 + (4 * off[1]) ** 2 + (settings["kind"] != "c")

    def best(population, seed):
        evolution, trials = Evolution(population, min(3, population), seed), []
        while len(trials) < 60:
            settings = evolution.following(trials, space, 1, lambda _: None)
            trials.append(Trial(settings, cost(settings)))
        return min(each.value for each in trials)

    evolved, drawn = ([best(n, seed) for seed in range(30)] for n in (8, 60))
    assert np.median(evolved) < 0.5 * np.median(drawn)


def test_the_experiments_own_values_are_the_first_trial():
    experiment = {"optimizer": {"rate": 0.5}, "losses": {}}
    space = {"optimizer.rate": Between(0.0, 1.0), "losses.entropy": Between(0.0, 1.0)}
    assert held_by(experiment, space) == {"optimizer.rate": 0.5}
    # What it has not is drawn, and not moved from anywhere.
    trials = [Trial(held_by(experiment, space), 1.0)] * 2
    child = Evolution(2, 1).following(trials, space, 1, lambda _: None)
    assert set(child) <= set(space) and child["optimizer.rate"] >= 0


def test_options_are_what_a_shell_reads():
    settings = {"a.rate": 0.01, "b": "two words", "c": (2, 4), "d": "plain"}
    assert as_options(settings) == (
        "--config.a.rate=0.01 --config.b='two words' --config.c='(2, 4)' "
        "--config.d=plain"
    )
