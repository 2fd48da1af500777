"""Descriptions round-trip, and reading one can call nothing but constructors."""

import dataclasses
import json
import math
from typing import Any

import flax.linen as nn
import numpy as np
import pytest
from flax.linen import Dense

from vqdit.values import build, describe

PACKAGES = ("vqdit", "tests", __name__.partition(".")[0])


@dataclasses.dataclass(frozen=True)
class Curve:
    scale: float = 1.0
    name: str = "linear"


@dataclasses.dataclass(frozen=True)
class Positive:
    value: int

    def __post_init__(self):
        if self.value < 1:
            raise ValueError(f"value={self.value}; write 1 or more")


class Inner(nn.Module):
    levels: tuple[int, ...]
    curve: Any = Curve()


class Outer(nn.Module):
    inner: nn.Module | None
    pairs: tuple = ()
    limit: float | None = None
    flag: bool = False
    title: str = ""


def round_trip(value):
    text = json.dumps(describe(value), allow_nan=False)
    return build(json.loads(text), PACKAGES)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        0.1,
        1e-300,
        math.inf,
        -math.inf,
        "",
        "None",
        (),
        (1, (2.0, "a"), None),
        {},
        {"class": 1, "fields": ()},
        {"float": "inf"},
        {"a.b": Curve(2.0)},
        Curve(0.5, "other"),
        Inner((8, 5)),
        Outer(Inner((8, 5), Curve(3.0)), ((1, 2), (3,)), math.inf, True, "é"),
        Outer(None),
    ],
    ids=str,
)
def test_build_inverts_describe(value):
    again = round_trip(value)
    assert again == value
    assert type(again) is type(value)


def test_number_types_survive():
    """1, 1.0 and True are equal in Python, so equality alone would not see a slip."""
    kinds = [type(item) for item in round_trip((1, 1.0, True))]
    assert kinds == [int, float, bool]
    assert math.isnan(round_trip(math.nan))


def test_numbers_of_numpy_are_written_as_those_of_python():
    given = (np.float32(1.5), np.int64(3), np.bool_(True), np.str_("a"), np.float64(2))
    again = round_trip(given)
    assert again == given
    assert [*map(type, again)] == [float, int, bool, str, float]
    assert round_trip(np.float32(np.inf)) == math.inf
    for value in (np.complex64(1), np.datetime64("2020"), np.longdouble(1)):
        with pytest.raises(ValueError, match="the value is a"):
            describe(value)


def test_every_field_is_written_and_linen_housekeeping_is_not():
    data = describe(Outer(None, name="somewhere"))
    assert set(data["fields"]) == {"inner", "pairs", "limit", "flag", "title"}
    # A dataclass of ours may have a field of that name, which says something.
    assert describe(Curve())["fields"]["name"] == "linear"


def test_an_old_file_without_a_new_field_takes_its_default():
    data = describe(Curve(2.0))
    del data["fields"]["name"]
    assert build(data, PACKAGES) == Curve(2.0)


@pytest.mark.parametrize(
    "value, message",
    [
        (Inner([8, 5]), "levels is a list; write a tuple"),
        (Outer(Inner((1,), len)), "inner.curve is a builtin_function"),
        (Outer(None, pairs=(1, {1})), r"pairs.1 is a set"),
        (Outer(Inner((), {"a": 1})), "inner holds what has no hash, such as a dict"),
        (Outer(None, pairs=({"a": 1},)), "the value holds what has no hash"),
        ({1: 2}, "the value has the key 1; write a str"),
        (Curve, "the value is a type"),
    ],
)
def test_what_is_not_a_value_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        describe(value)


def test_a_class_that_cannot_be_found_again_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Local:
        x: int = 0

    with pytest.raises(ValueError, match="cannot be imported by that name"):
        describe(Local())


class Held:
    """Neither dataclass nor module."""

    called = False

    def __init__(self):
        type(self).called = True


def launch(**_):
    raise AssertionError("a function was called")


HERE = Curve.__module__


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "flax.linen.Dense",
        f"{HERE}.json.loads",
        f"{HERE}.json",
        f"{HERE}.nn.Dense",
        f"{HERE}.{Dense.__name__}",  # imported there, not defined
        f"{HERE}.launch",
        f"{HERE}.Held",
        f"{HERE}.Any",
        f"{HERE}.PACKAGES",
        f"{HERE}.Gone",
        "vqdit.values.nn.Module",
        "vqdit.values.importlib.import_module",
        "vqdit.nowhere.Curve",
        "vqdit",
        "Curve",
        "",
        ".vqdit.Curve",
        "vqdit..Curve",
        7,
        None,
    ],
)
def test_only_classes_of_the_packages_can_be_named(path):
    with pytest.raises(ValueError, match="is not a dataclass or module of"):
        build({"class": path, "fields": {}}, PACKAGES)
    assert not Held.called


def test_nothing_is_imported_to_find_out(tmp_path, monkeypatch):
    """Neither a package whose name begins alike, nor a program of a named package."""
    for file in ("trusted_not/__init__.py", "trusted/__main__.py"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for path in ("trusted_not.Curve", "trusted.__main__.Curve"):
        with pytest.raises(
            ValueError, match="is not a dataclass or module of trusted$"
        ):
            build({"class": path, "fields": {}}, ("trusted",))


def test_the_default_is_this_library_alone():
    with pytest.raises(ValueError, match="of vqdit$"):
        build(describe(Curve()))


@pytest.mark.parametrize(
    "data, message",
    [
        ({"fields": {}}, "has the keys"),
        ({"class": f"{HERE}.Curve"}, "has the keys"),
        ({"class": f"{HERE}.Curve", "fields": []}, "has the keys"),
        ({"float": "1"}, "has the keys"),
        ({"class": f"{HERE}.Curve", "fields": {"scal": 1}}, "did you mean scale"),
        ({"class": f"{HERE}.Curve", "fields": {"zzz": 1}}, "there are scale, name"),
        ({"class": f"{HERE}.Inner", "fields": {"parent": None}}, "no field 'parent'"),
        ({"class": f"{HERE}.Inner", "fields": {}}, "needs the field levels"),
        ({"class": f"{HERE}.Positive", "fields": {"value": 0}}, "write 1 or more"),
        ({"class": f"{HERE}.Positive", "fields": {"value": "1"}}, "refuses: '<' not"),
        (
            {"class": f"{HERE}.Renamed", "fields": {"wide": 1}},
            "cannot be read: 'width'",
        ),
        (b"1", "is a bytes; write plain JSON"),
    ],
)
def test_a_damaged_description_is_refused_in_one_line(data, message):
    with pytest.raises(ValueError, match=message) as caught:
        build([data], PACKAGES)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("0")  # where it is


# Every class that files of version 0.1.0 name, by the module it was in then.
STORED = """
train.config AdamW Optimizer Mesh Run Weights Adversarial KMeansInit StageOne StageTwo
train.data.audio Audio
train.data.augment ImageAugment SeriesAugment VolumeAugment RangeAugment
train.data.clean Cleaning Cleaned
train.data.clean_audio AudioCleaning
train.data.images Images
train.data.normalise Statistics Normaliser
train.data.ranges Ranges
train.data.series Series
train.data.video Video
train.data.volumes Volumes
vqdit.codec LatentContract
vqdit.diffusion.gaussian Gaussian
vqdit.diffusion.masking Masking
vqdit.diffusion.schedules Linear Cosine DDPMLinear
vqdit.diffusion.times Uniform LogitNormal
vqdit.dit Continuous Discrete DiT
vqdit.judge Classifier
vqdit.quantizers.bsq BSQ
vqdit.quantizers.fsq FSQ
vqdit.quantizers.grouped GroupedQuantizer
vqdit.quantizers.gumbel GumbelQuantizer
vqdit.quantizers.ibq IBQ
vqdit.quantizers.lfq LFQ
vqdit.quantizers.multiscale MultiScaleQuantizer
vqdit.quantizers.residual ResidualQuantizer
vqdit.quantizers.residual_fsq ResidualFSQ
vqdit.quantizers.simvq SimVQ
vqdit.quantizers.vq VectorQuantizer EMAVectorQuantizer
vqdit.tokenizer.bins Labels Boxes
vqdit.tokenizer.causal CausalEncoder CausalDecoder
vqdit.tokenizer.conv ConvEncoder ConvDecoder
vqdit.tokenizer.discriminators PatchDiscriminator PeriodDiscriminator
vqdit.tokenizer.discriminators MultiPeriodDiscriminator ResolutionDiscriminator
vqdit.tokenizer.discriminators MultiResolutionDiscriminator Discriminators
vqdit.tokenizer.frames PerFrame
vqdit.tokenizer.spectral LogMel
vqdit.tokenizer.text Bytes BPE
vqdit.tokenizer.titok TiTokEncoder TiTokDecoder
vqdit.tokenizer.tokenizer Tokenizer
vqdit.tokenizer.vit ViTEncoder ViTDecoder
vqdit.tokenizer.vocos VocosEncoder VocosDecoder
vqdit.tokenizer.wave WaveEncoder WaveDecoder
"""


@pytest.mark.parametrize("line", STORED.strip().splitlines())
def test_old_files_name_classes_by_their_module(line):
    """They still load, and are written by public name from then on."""
    module, *classes = line.split()
    for name in classes:
        data = {"class": f"{module}.{name}", "fields": {"no such field": 1}}
        with pytest.raises(ValueError, match="has no field") as caught:
            build(data, ("vqdit", "train"))
        assert f"{module.partition('.')[0]}.{name} has no field" in str(caught.value)


def test_a_class_reads_the_fields_it_once_had():
    data = {"class": f"{__name__}.Renamed", "fields": {"width": 3}}
    assert build(data, PACKAGES) == Renamed(widths=(3,))
    assert data["fields"] == {"width": 3}
    assert round_trip(Renamed((1, 2))) == Renamed((1, 2))


@dataclasses.dataclass(frozen=True)
class Renamed:
    widths: tuple[int, ...]

    @staticmethod
    def upgraded(fields):
        return fields if "widths" in fields else {"widths": [fields["width"]]}
