"""A value checks itself by what its fields are annotated with."""

import dataclasses
import enum
import math
import pathlib
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit import (
    DDIM,
    Betas,
    Churn,
    Corrector,
    CosineBetas,
    DDPMLinear,
    DiT,
    Gaussian,
    Karras,
    LinearBetas,
    LogitNormal,
    Steps,
    Times,
    Unmask,
    VarianceExploding,
)
from vqdit.fields import FILLED, Bound, Checked, Count, Positive, Seed, Share, _fits


class Mixer(Checked, nn.Module):
    width: Count = 1
    mode: Literal["sum", "gate"] | None = "sum"
    keep: Annotated[float, Bound(at_least=0, below=1)] = 0.0
    strides: Annotated[tuple[Count, ...], FILLED] = (2, 2)
    sides: Count | tuple[Count, ...] = 1
    most: Count | None = None
    inner: nn.Module | None = None
    stride: int = 1


@dataclasses.dataclass(frozen=True)
class Curve(Checked):
    power: Annotated[float, Bound(above=0, at_most=math.inf)] = 1.0
    size: Positive = 1.0
    share: Share = 0.5
    exact: Literal[True] = True
    anything: Any = None
    place: float = 0.0
    ends: tuple[float, float] = (0.0, math.inf)
    scale: float | str | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.share > self.power:
            raise ValueError("the share is above the power")


@pytest.mark.parametrize("value", [2**63, -(2**63), 10**400])
def test_whole_numbers_that_no_array_holds_are_refused(value):
    """10**400 has no float to be compared by, either."""
    for kind in (Count, Positive, Bound(at_most=5), Seed):
        bound = kind if isinstance(kind, Bound) else kind.__metadata__[0]
        assert not bound.holds(value)
    assert Bound().holds(2**63 - 1) and Bound(at_least=math.inf).holds(math.inf)


@pytest.mark.parametrize(
    "kind, fields, message",
    [
        (Mixer, {"width": 0}, "Mixer.width=0: write at least 1$"),
        (Mixer, {"width": None}, "Mixer.width=None: write at least 1$"),
        (Mixer, {"mode": "max"}, "mode='max': write one of sum, gate or None$"),
        (Mixer, {"keep": 1.0}, "keep=1.0: write at least 0 and below 1$"),
        (Mixer, {"keep": math.nan}, "keep=nan: write"),
        (Mixer, {"strides": ()}, r"strides=\(\): write one or more, each at least 1$"),
        (Mixer, {"strides": (2, 0)}, r"strides=\(2, 0\): write one or more, each"),
        (Mixer, {"sides": 0}, "sides=0: write at least 1 or a tuple, each at least 1$"),
        (Mixer, {"sides": (1, 0)}, r"sides=\(1, 0\): write"),
        (Mixer, {"most": 0}, "most=0: write at least 1 or None$"),
        (Mixer, {"width": True}, "width=True: write whole"),
        (Mixer, {"width": 2.5}, "width=2.5: write whole numbers, at least 1$"),
        (Mixer, {"width": 2.0}, "width=2.0: write whole numbers, at least 1$"),
        (Mixer, {"width": np.float32(2)}, "width=2.0: write whole numbers"),
        (Mixer, {"strides": (2, 1.5)}, r"strides=\(2, 1.5\): write whole numbers, one"),
        (Mixer, {"sides": (2, 1.5)}, "sides=.*: write whole numbers, at least 1 or"),
        (Mixer, {"most": 1.5}, "most=1.5: write whole numbers, at least 1 or None$"),
        (Mixer, {"stride": 1.5}, "stride=1.5: write a whole number$"),
        (Curve, {"power": 0.0}, "Curve.power=0.0: write above 0 and at most inf$"),
        (Curve, {"size": math.inf}, "Curve.size=inf: write above 0$"),
        (Curve, {"share": -0.1}, "share=-0.1: write at least 0 and at most 1$"),
        (Curve, {"exact": 1}, "exact=1: write one of True$"),
        (Curve, {"power": 0.2}, "above the power"),
        (Curve, {"place": math.nan}, "Curve.place=nan: write a finite number$"),
        (Curve, {"place": -math.inf}, "Curve.place=-inf: write a finite number$"),
        (Curve, {"ends": (0.0, math.nan)}, "ends=.0.0, nan.: write a tuple, each a fi"),
        (Curve, {"scale": math.nan}, "scale=nan: write a finite number or "),
        (Mixer, {"inner": "dense"}, "Mixer.inner='dense': write a Module or None$"),
        (Gaussian, {"schedule": "cosine"}, "schedule='cosine': write a Schedule$"),
        (Gaussian, {"schedule": None}, "Gaussian.schedule=None: write a Schedule$"),
        (DiT, {"streams": ("image",)}, "each a Continuous or a Discrete$"),
    ],
)
def test_what_a_field_may_not_hold_is_refused(kind, fields, message):
    value = kind()
    for name, held in fields.items():  # past the annotations' check under pytest
        object.__setattr__(value, name, held)
    with pytest.raises(ValueError, match=message):
        value.__post_init__()


def test_a_long_value_is_told_in_part():
    mixer = Mixer()
    object.__setattr__(mixer, "mode", "x" * 1000)
    with pytest.raises(ValueError, match=r"mode='x+\.\.\.: write one of") as caught:
        mixer.__post_init__()
    assert len(str(caught.value)) < 400


def test_what_it_may_hold_is_held():
    mixer = Mixer(3, None, 0.5, [1, 2], (4, 4), 7, nn.Dense(2))
    assert mixer.strides == (1, 2) and hash(mixer) and mixer.sides == (4, 4)
    assert mixer.clone(width=4).width == 4
    assert Curve(place=-3, scale="a").ends == (0.0, math.inf)  # as is by default
    assert Curve(math.inf, share=1.0, anything=[1]).power == math.inf


def test_numbers_of_numpy_are_held_as_those_of_python():
    mixer, curve = Mixer(), Curve()
    for value, name, held in (
        (mixer, "width", np.int64(3)),
        (mixer, "strides", (np.int8(3), np.uint16(2))),
        (mixer, "stride", np.int32(4)),
        (curve, "share", np.float32(0.9)),
        (curve, "ends", (np.float16(0), np.float64(2))),
        (curve, "scale", np.float32(2)),
    ):
        object.__setattr__(value, name, held)
        value.__post_init__()
        assert getattr(value, name) == held
        parts = getattr(value, name)
        parts = parts if isinstance(parts, tuple) else (parts,)
        assert {type(part) for part in parts} <= {int, float}
    assert hash(mixer) == hash(Mixer(3, strides=(3, 2), stride=4))


def test_a_whole_number_inside_a_jit_is_known_by_its_type():
    found = []
    jax.jit(lambda *xs: found.extend(_fits(x, Count) for x in xs))(3, 3.0)
    assert found == [True, False]
    assert _fits(jnp.int32(3), Count) and not _fits(jnp.arange(3), int)


NO_NUMBERS = (math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize(
    "make",
    [
        lambda x: DDIM(eta=x),
        lambda x: Corrector(snr=x),
        lambda x: Churn(scale=x),
        lambda x: Churn(low=x),
        lambda x: LogitNormal(mean=x),
        lambda x: Karras(high=x),
        lambda x: Steps(shift=x),
        lambda x: Times((1.0, x, 0.0)),
        lambda x: Unmask(temperature=x),
        lambda x: VarianceExploding(high=x),
        lambda x: DDPMLinear(beta_max=x),
        lambda x: LinearBetas(power=x),
        lambda x: CosineBetas(offset=x),
        lambda x: Betas((0.1, x)),
    ],
)
def test_no_value_takes_what_is_no_number(make, value):
    with pytest.raises(ValueError) as refusal:
        make(value)
    assert "\n" not in str(refusal.value)


def test_noise_may_be_added_however_much_there_is():
    """S_tmax of arXiv:2206.00364, table 5, is infinite for some."""
    assert Churn(high=math.inf).high == math.inf


def test_an_array_of_no_axes_is_a_number_and_inside_a_jit_not_known():
    bound = Bound(at_least=0)
    assert all(map(bound.holds, (jnp.float32(0.5), np.array(0.25), np.float32(0))))
    wrong = (jnp.float32(-1), jnp.float32(jnp.nan), jnp.ones(1), np.array(np.inf))
    assert not any(map(bound.holds, wrong))
    seen = []
    jax.jit(lambda x: seen.append(bound.holds(x)))(-1.0)
    assert seen == [True]
    assert Bound(at_least=-math.inf).holds(-math.inf)


class Shade(enum.IntEnum):
    DARK = 0


class Pair(NamedTuple):
    low: float


class Keeps(Checked, nn.Module):
    shade: Shade = Shade.DARK
    pair: Pair = Pair(0.0)
    dtype: jnp.dtype = jnp.dtype("float32")
    path: pathlib.Path = pathlib.Path("a")


def test_values_of_classes_that_are_no_parts_are_their_owners():
    held = Keeps(dtype="bfloat16", path="b")
    assert (held.shade, held.pair.low, held.dtype) == (0, 0.0, "bfloat16")
