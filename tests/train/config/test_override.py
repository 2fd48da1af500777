"""Overrides: a value by the type of its field, a refusal that says what to write."""

import dataclasses
import math
from typing import Any, Literal, Optional, Protocol, runtime_checkable

import flax.linen as nn
import pytest

import vqdit
from train.config.options import annotations
from train.config.options.expression import parse_value
from train.config.options.paths import ABSENT, children, diff, spell
from train.config.override import overrides
from train.errors import BadInput
from vqdit.fields import Count, Share


@runtime_checkable
class Shape(Protocol):
    def area(self) -> float: ...


@dataclasses.dataclass(frozen=True)
class Square:
    side: float = 1.0

    def area(self):
        return self.side**2


@dataclasses.dataclass(frozen=True)
class Tile:
    shape: Shape = Square()
    count: int = 1


@dataclasses.dataclass(frozen=True)
class Level:
    name: str
    grid: int = 8
    patch: int = 2

    def __post_init__(self):
        if self.grid % self.patch:
            raise ValueError(f"patch {self.patch} does not divide grid {self.grid}")


class Net(nn.Module):
    levels: tuple[Level, ...]
    depth: int = 12
    width: int = 384
    inner: Any = None
    rotary: bool = False
    kind: Literal["sincos", "rotary"] = "sincos"


@dataclasses.dataclass(frozen=True)
class Tuner:
    peak_lr: float = 1e-4
    clip: float | None = 1.0
    schedule: Literal["constant", "cosine"] = "constant"
    count: Literal[1, 2] = 1
    betas: tuple[float, float] = (0.9, 0.999)
    sizes: tuple[int, ...] = ()
    folder: str | None = None
    number: float | int = 1
    legacy: Optional[int] = None  # noqa: UP045  both spellings of a union are read
    any_thing: Any = None


@dataclasses.dataclass(frozen=True)
class Trial:
    name: str = "toy"
    model: Net = Net((Level("image"), Level("audio")))
    tuner: Tuner = Tuner()
    tile: Tile | None = None
    tiles: dict[str, Tile] = dataclasses.field(default_factory=dict)
    folders: dict[str, str] = dataclasses.field(default_factory=dict)


TRIAL = Trial()


def override(experiment, dotted, text):
    return overrides(experiment, {dotted: text})


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """Takes the toys for a part of the library."""
    found = annotations.library() | {t.__name__: t for t in (Square, Tile, Tuner, Net)}
    monkeypatch.setattr(annotations, "library", lambda: found)


def get(value, dotted):
    for name in dotted.split("."):
        value = children(value)[name]
    return value


@pytest.mark.parametrize(
    "dotted, text, wanted",
    [
        ("model.depth", "24", 24),
        ("model.depth", " -1_000 ", -1000),
        ("model.rotary", "True", True),
        ("model.rotary", "false", False),
        ("model.kind", "rotary", "rotary"),
        ("model.kind", "'rotary'", "rotary"),
        ("model.inner", "((1, 2.0), 'a', None)", ((1, 2.0), "a", None)),
        ("tuner.peak_lr", "3", 3.0),
        ("tuner.peak_lr", "1e-3", 1e-3),
        ("tuner.peak_lr", "-inf", -math.inf),
        ("tuner.clip", "None", None),
        ("tuner.clip", "none", None),
        ("tuner.clip", "2", 2.0),
        ("tuner.schedule", "cosine", "cosine"),
        ("tuner.count", "2", 2),
        ("tuner.betas", "(0, 0.5)", (0.0, 0.5)),
        ("tuner.betas", "0.8,0.9", (0.8, 0.9)),
        ("tuner.sizes", "[8, 5]", (8, 5)),
        ("tuner.sizes", "()", ()),
        ("tuner.sizes", "8", (8,)),
        ("model.depth", "24.0", 24),
        ("tuner.folder", "runs/a b", "runs/a b"),
        ("tuner.folder", "None", None),
        ("tuner.folder", "12", "12"),
        ("tuner.number", "1", 1),
        ("tuner.number", "1.0", 1.0),
        ("tuner.legacy", "7", 7),
        ("name", "None", "None"),
        ("name", "a=b", "a=b"),
        ("name", "'a'", "'a'"),  # as it stands
        ("tile", "Tile(count=3)", Tile(count=3)),
        ("tile", "Tile(Square(2), 3)", Tile(Square(2.0), 3)),
        ("tiles.image", "Tile()", Tile()),
        ("tiles", "{'a': Tile(), 'b': Tile(Square())}", {"a": Tile(), "b": Tile()}),
        ("folders.image", "runs/tok=1", "runs/tok=1"),
        ("model.levels.1.patch", "4", 4),
    ],
)
def test_text_becomes_a_value_of_the_fields_type(dotted, text, wanted):
    new = override(TRIAL, dotted, text)
    found = get(new, dotted)
    assert found == wanted
    assert type(found) is type(wanted)
    assert TRIAL == Trial()  # the old one is untouched


@pytest.mark.parametrize(
    "dotted, text, message",
    [
        ("model.dept", "24", "model.dept does not exist; did you mean model.depth?"),
        ("depth", "24", "depth does not exist; did you mean model.depth?"),
        ("lr", "1", "lr does not exist; did you mean tuner.peak_lr?"),
        ("zzz", "1", "there are name, model, tuner, tile, tiles, folders"),
        ("model.parent", "None", "model.parent does not exist"),
        ("model.name", "x", "model.name does not exist"),
        (
            "model.levels.audio.patch",
            "1",
            "model.levels.audio does not exist; there are 0, 1",
        ),
        ("model.levels.2.patch", "1", "model.levels.2 does not exist; there are 0, 1"),
        ("tiles.image.count", "1", "tiles.image does not exist; there are none"),
        ("tile.count", "1", "tile is None and has no count; first write tile as Tile"),
        ("model.depth.x", "1", "model.depth is the int 12 and has no x"),
        ("model.depth", "abc", "model.depth: write a whole number, not 'abc'"),
        ("model.depth", "24.5", "model.depth: write a whole number, not 24.5$"),
        ("model.depth", "True", "write a whole number"),
        ("model.depth", "", "write a whole number, not ''"),
        ("model.depth", "2+2", "write a whole number"),
        ("model.depth", "1+" * 5000 + "1", "write a whole number"),
        ("model.depth", "-" * 20_000 + "1", "write a whole number"),
        ("model.depth", "-'a'", "write a whole number"),
        ("model.depth", "len('a')", "len is no dataclass or module of vqdit"),
        ("model.rotary", "1", "model.rotary: write True or False, not 1"),
        ("model.kind", "sincs", "write one of sincos, rotary, not 'sincs'"),
        ("tuner.peak_lr", "True", "write a number, not True"),
        ("tuner.clip", "x", "tuner.clip: write a number or None, not 'x'"),
        ("tuner.count", "True", "write one of 1, 2"),
        ("tuner.betas", "(0.9,)", "write a tuple of a number and a number"),
        ("tuner.betas", "(0.9, 'a')", "tuner.betas.1: write a number, not 'a'"),
        ("tuner.sizes", "(8, 5.5)", "tuner.sizes.1: write a whole number, not 5.5"),
        ("tuner.sizes", "None", r"write a tuple of ints such as \(8, 5\), not None"),
        (
            "model.inner",
            "FSQ(None)",
            "FSQ.levels: .* tuple of ints such .*, not None",
        ),
        (
            "model.inner",
            "FSQ((8, 1))",
            "FSQ.levels.1: .* at least 2, not 1",
        ),
        ("tuner", "3", r"tuner: write Tuner\(...\), not 3"),
        ("tile", "3", r"tile: write Tile\(...\) or None, not 3"),
        ("tile", "Tile", r"tile: write Tile\(shape=..., count=...\)"),
        ("tile", "Til()", r"Til is no dataclass .*; did you mean Tile\?"),
        ("tile", "Tile(cont=1)", r"tile: Tile.cont does not exist; did you mean count"),
        ("tile", "Tile(count='a')", "tile: Tile.count: write a whole number, not 'a'"),
        ("tile", "Tile(shape=3)", "tile: Tile.shape: write .*, not 3"),
        ("tile", "Tile(Square(), 1, 2)", "Tile has 2 fields, not more"),
        ("tile", "Tile(Square(), shape=Square())", "Tile.shape is given twice"),
        ("tile", "Tile(count=3, count=4)", "Tile.count is given twice"),
        ("tile", "Tile(*(1, 2))", "without \\* or \\*\\*"),
        ("tile", "Tile(**{'count': 1})", "without \\* or \\*\\*"),
        ("tile", "Square()", r"tile: write Tile\(...\) or None, not Square\(\)"),
        ("tile", "Tile(count=(lambda: 1)())", "no dataclass or module"),
        ("tile", "Tile(count=[i for i in (1,)])", "write a whole number"),
        ("tile", "__import__('os').system('true')", "no dataclass or module"),
        ("tile", "Tile.__class__('x')", "no dataclass or module"),
        ("tile", "Tile(count=1", "write Tile"),
        ("model.levels.0.patch", "3", "patch 3 does not divide grid 8"),
        ("model", "Net()", "model: Net: .*missing 1 required .* 'levels'"),
        ("tiles", "{'a': 1}", r"tiles.a: write Tile\(...\), not 1"),
        ("tiles", "{1: Tile()}", "tiles: write a dict"),
        ("tiles.a", "1", r"tiles.a: write Tile\(...\), not 1"),
    ],
)
def test_refusals_are_one_line_that_says_what_to_write(dotted, text, message):
    with pytest.raises(BadInput, match=message) as caught:
        override(TRIAL, dotted, text)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(dotted.partition(".")[0])


@pytest.mark.parametrize("order", [1, -1])
def test_values_that_depend_on_each_other_change_together(order):
    """Either change alone is refused, in whichever order they are written."""
    texts = {"model.levels.0.grid": "9", "model.levels.0.patch": "3"}
    for dotted, text in texts.items():
        with pytest.raises(BadInput):
            override(TRIAL, dotted, text)
    new = overrides(TRIAL, dict(list(texts.items())[::order]))
    assert new.model.levels == (Level("image", 9, 3), Level("audio"))


@pytest.mark.parametrize("order", [1, -1])
def test_parts_apply_to_a_new_whole(order):
    texts = {"tile": "Tile(count=3)", "tile.shape.side": "5"}
    new = overrides(TRIAL, dict(list(texts.items())[::order]))
    assert new.tile == Tile(Square(5.0), 3)
    # To an entry of a dict that was not there, too.
    texts = {"tiles.a": "Tile(count=3)", "tiles.a.shape.side": "5"}
    new = overrides(TRIAL, dict(list(texts.items())[::order]))
    assert new.tiles == {"a": Tile(Square(5.0), 3)}


def test_diff_is_what_was_overridden():
    texts = {
        "model.depth": "24",
        "model.levels.1.patch": "4",
        "tuner.clip": "None",
        "tiles.image": "Tile()",
        "name": "other",
    }
    assert diff(TRIAL, overrides(TRIAL, texts)) == {
        "model.depth": (12, 24),
        "model.levels.1.patch": (2, 4),
        "tuner.clip": (1.0, None),
        "tiles.image": (ABSENT, Tile()),
    }
    assert diff(TRIAL, TRIAL) == {}


def test_diff_reaches_everywhere():
    nan = Tuner(peak_lr=math.nan)
    assert diff(nan, dataclasses.replace(nan)) == {}
    assert list(diff(nan, Tuner())) == list(diff(Tuner(), nan)) == ["peak_lr"]
    assert diff((), (Tile(),)) == {"": ((), (Tile(),))}
    longer = TRIAL.model.clone(levels=(Level("image"),))
    old, new = diff(TRIAL.model, longer)["levels"]
    assert (len(old), len(new)) == (2, 1)
    # A part's name is a value, unlike the experiment's.
    renamed = TRIAL.model.clone(levels=(Level("picture"), Level("audio")))
    assert list(diff(TRIAL.model, renamed)) == ["levels.0.name"]
    assert diff(Tile(), Square()) == {"": (Tile(), Square())}
    assert diff(Tile(Square()), Tile(None)) == {"shape": (Square(), None)}


def test_a_long_value_is_told_in_part():
    with pytest.raises(
        BadInput, match=r"whole number, not \(0, 1, .*\.\.\.$"
    ) as caught:
        override(TRIAL, "model.depth", str(tuple(range(1000))))
    assert len(str(caught.value)) < 400
    long = "x" * 1000
    for text, message in (
        (f"{long} y", r"whole number, not 'x{296}\.{3}$"),
        (long, r"whole number, not 'x{296}\.{3}$"),
        (f"{long}()", r"at: x{297}\.{3} is no dataclass"),
        (f"{{'{long}': 1, '{long}': 2}}", r"at: 'x{296}\.{3} is there twice"),
    ):
        with pytest.raises(BadInput, match=message):
            parse_value(text, int, "at")
    with pytest.raises(BadInput, match=f"'{long[:50]}'$"):
        parse_value(long[:50], int, "at")


def test_a_value_is_spelled_as_one_writes_it():
    value = {"a": (Tile(count=3),), "b": (Tile(Square(2.0)), 1, "x")}
    text = "{'a': (Tile(count=3),), 'b': (Tile(shape=Square(side=2.0)), 1, 'x')}"
    assert spell(value) == text


def test_the_library_is_found_by_name_whatever_path_is_before_it():
    text = "dit.DiT((vqdit.Discrete('image', (4, 4), 16),), depth=2)"
    new = override(TRIAL, "model.inner", text).model.inner
    assert type(new) is vqdit.DiT
    assert (new.depth, new.streams[0].vocab) == (2, 16)


@pytest.mark.parametrize(
    "text, annotation, message",
    [
        ("2", Share | tuple[str, ...], "at: write a number, .* or a tuple of texts"),
        ("0", Count | tuple[Count, ...] | None, "at: write a whole number, at least 1"),
        ("-1", tuple[Count, ...], "at.0: write a whole number, at least 1, not -1"),
    ],
)
def test_what_no_arm_of_a_union_takes_is_told_of_all_arms(text, annotation, message):
    """A number is a tuple of one only where it may stand in that."""
    with pytest.raises(BadInput, match=message):
        parse_value(text, annotation, "at")
    assert parse_value("1", tuple[Count, ...] | None, "at") == (1,)
    assert parse_value("0.5", Share | tuple[str, ...], "at") == 0.5
    assert parse_value("a,b", Share | tuple[str, ...], "at") == ("a", "b")
    assert parse_value("1,b", tuple[str, ...] | None, "at") == ("1", "b")
    chosen = tuple[Literal["a", "b"], ...]
    assert parse_value("b", chosen, "at") == ("b",)
    assert parse_value("a,b", chosen, "at") == ("a", "b")
    with pytest.raises(BadInput, match="at.1: write one of a, b, not 'c'"):
        parse_value("a,c", chosen, "at")
    # A class may be called none.
    for text in ("none", "None", "true", "inf"):
        assert parse_value(text, tuple[str, ...], "at") == (text,)
    assert parse_value("none", tuple[str, ...] | None, "at") is None
    assert parse_value("none", bool | tuple[str, ...], "at") == ("none",)
    assert parse_value("true", bool | tuple[str, ...], "at") is True
