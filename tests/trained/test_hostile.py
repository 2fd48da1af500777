"""Bundles of an attacker: one line each, soon, and nothing outside the folder."""

import hashlib
import json
import os
import shutil
import struct

import numpy as np
import pytest

from tests import hostile, toys
from tests.members import marked
from vqdit import Judge, sealed
from vqdit.features import Classifier
from vqdit.trained.bundle import load, read_json, save

CASES = 40
CONFIG, WEIGHTS = "config.json", "model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    save(folder / "tokenizer", toys.codec())
    save(folder / "generator", toys.any_to_any())
    network = Classifier(3, (4, 8), 5)
    params = toys.drawn(network, np.zeros((1, 8, 8, 1), np.float32))["params"]
    save(folder / "classifier", Judge(network, params, (8, 8, 1), {"steps": 1}))
    return folder


def with_config(folder, config):
    (folder / CONFIG).write_text(json.dumps(sealed.sealed(config)))


def with_weights(folder, data):
    """Other weights, with the hash that belongs to them."""
    (folder / WEIGHTS).write_bytes(data)
    config = sealed.opened(read_json(folder / CONFIG))
    with_config(folder, config | {"sha256": hashlib.sha256(data).hexdigest()})


@pytest.mark.parametrize("seed", marked(range(4), range(1, 4)))
@pytest.mark.parametrize("kind", ["tokenizer", "generator"])
def test_any_value_in_its_configuration(kind, seed, whole, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(whole / kind, folder)
    config = sealed.opened(read_json(folder / CONFIG))
    source, lines = hostile.seeded(1, seed), []
    for _ in range(CASES):
        with_config(folder, hostile.spoiled(config, source))
        lines.append(hostile.refused(lambda: load(folder), ValueError))
    assert sum(line is not None for line in lines) > CASES / 2
    for text in hostile.texts(source):
        (folder / CONFIG).write_bytes(text)
        assert hostile.refused(lambda: load(folder), ValueError)


def test_any_value_in_the_header_of_its_weights(whole, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(whole / "tokenizer", folder)
    data = (folder / WEIGHTS).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header, source = json.loads(data[8 : 8 + size]), hostile.seeded(2)
    for _ in range(CASES):
        text = json.dumps(hostile.spoiled(header, source)).encode()
        with_weights(folder, struct.pack("<Q", len(text)) + text + data[8 + size :])
        assert hostile.refused(lambda: load(folder), ValueError)
        with_weights(folder, hostile.bytes_of(data, source))
        hostile.refused(lambda: load(folder), ValueError)
    for broken in (b"", b"\xff" * 8, struct.pack("<Q", 2**24 + 1) + bytes(100)):
        with_weights(folder, broken)
        assert hostile.refused(lambda: load(folder), ValueError)
    at = 8 + size + header["params/into/kernel"]["data_offsets"][0]
    with_weights(folder, data[:at] + np.float32(np.nan).tobytes() + data[at + 4 :])
    assert "finite" in hostile.refused(lambda: load(folder), ValueError)


def deeper(config):
    config["module"]["fields"]["depth"] = 10**9


def wider(config):
    config["module"]["fields"]["width"] = 10**9


def larger(config):
    config["module"]["fields"]["streams"][0]["fields"]["grid"] = [10**6, 10**6]


def many(config):
    config["module"]["fields"]["depth"] = 250  # many more than it has weights for


def crowded(config):
    streams = config["module"]["fields"]["streams"]
    for i in range(200):
        fields = streams[0]["fields"] | {"name": f"image_{i}"}
        streams.append(streams[0] | {"fields": fields})


@pytest.mark.parametrize(
    "change, said",
    [
        (deeper, "its DiT.depth is 1000000000"),
        (wider, "is too large"),
        (larger, "is too large"),
        (many, "its DiT.depth is 250"),
        pytest.param(crowded, "has many more parts", marks=pytest.mark.slow),
    ],
)
def test_a_module_that_its_weights_do_not_bear_out(change, said, whole, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(whole / "generator", folder)
    config = sealed.opened(read_json(folder / CONFIG))
    change(config)
    with_config(folder, config)
    line = hostile.refused(lambda: load(folder), ValueError)
    assert said in line


@pytest.mark.parametrize(
    "field, value, said",
    [
        ("shape", [10**6, 10**6, 1], "at most 1,073,741,824 values"),
        ("shape", [5], "no whole bundle"),
        ("grid", [4, 4], "its grid is"),
        ("channels", 3, "one of each of 3 channels"),
        ("codes", [8], "its codes is"),
        ("std", [1.0, 0.0], "std="),
        ("mean", [{"float": "nan"}, 0.0], "mean="),
        ("fingerprint", 5, "fingerprint"),
        ("preparation", [["far"]], "preparation"),
    ],
)
def test_a_contract_that_cannot_be(field, value, said, whole, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(whole / "tokenizer", folder)
    config = sealed.opened(read_json(folder / CONFIG))
    config["contract"]["fields"][field] = value
    with_config(folder, config)
    line = hostile.refused(lambda: load(folder), ValueError)
    assert said in line


@pytest.mark.parametrize(
    "change, said",
    [
        ({"shape": [8, 8]}, "it judges pictures of shape (8, 8)"),
        ({"shape": [8, 0, 1]}, "it judges pictures of shape (8, 0, 1)"),
        ({"shape": [8, 8, True]}, "it judges pictures of shape (8, 8, True)"),
        ({"shape": [8, 8, 2]}, "its weights params/conv_0/kernel are"),
        ({"protocol": 3}, "its protocol is not said by name"),
        ({"held_out": [1]}, "its held-out part is no mapping"),
        ({"front": 3}, "its module is no classifier"),
        ({"other": 3}, "not of shape, protocol and front"),
        (None, "its module is no classifier"),
    ],
)
def test_a_classifier_that_cannot_be(change, said, whole, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(whole / "classifier", folder)
    assert isinstance(load(folder), Judge)
    config = sealed.opened(read_json(folder / CONFIG))
    if change is None:
        config["module"] = read_json(whole / "tokenizer" / CONFIG)["module"]
    else:
        config["judge"]["dict"] |= change
    with_config(folder, config)
    assert said in hostile.refused(lambda: load(folder), ValueError)


def test_nothing_outside_the_folder_is_opened(whole, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(whole / "generator", folder)
    config = sealed.opened(read_json(folder / CONFIG))
    stranger = str(whole / "tokenizer")
    for name in (stranger, "../../../tokenizer", "..", "", "image/../image", "a\x00"):
        with_config(folder, config | {"tokenizers": [name]})
        line = hostile.refused(lambda: load(folder), ValueError)
        assert "is no word" in line
    with_config(folder, config)
    place = folder / "tokenizers" / "image"
    shutil.rmtree(place)
    for target in (stranger, folder):  # the last without end
        os.symlink(target, place)
        assert "a link out" in hostile.refused(lambda: load(folder), ValueError)
        place.unlink()
    shutil.copytree(whole / "generator", place)
    assert "no tokenizer" in hostile.refused(lambda: load(folder), ValueError)
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)
    assert hostile.refused(lambda: load(folder), ValueError)
