"""Every file that training and the codec read, as an attacker writes it."""

import dataclasses
import hashlib
import io
import json
import shutil
import zipfile
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from tests import hostile, toys
from tests.train import toy
from tests.train.caches import write_cache
from tests.train.experiments import JOINT, TOKENIZER, of_values
from train import ablate, decompress, page
from train.codec import container
from train.codec.coder import Coder
from train.codec.container import Header, bundle_name, pack
from train.codec.files import open_codec
from train.codec.prior import count_codes, read_prior, write_prior
from train.config.validate import validate
from train.config.workdir import read_config
from train.errors import BadInput
from train.evaluation.crossings.bound_figures import kept
from train.modalities import Images, Modality, Record
from train.objectives.bundles import open_judge
from train.objectives.bundles import source as of_judge
from train.pipeline import statistics
from train.pipeline.cache import LatentCache
from train.runtime.checkpoint import Checkpoints
from train.sources import Source
from vqdit import sealed
from vqdit.features import Classifier
from vqdit.tokenizer import Labels
from vqdit.trained.bundle import read_json
from vqdit.values import describe

# Orbax abandons its other reads when one fails; nothing of ours is lost with them.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
CASES = 60


def reads_json(path, read, seed, needed=0.5):
    """Every spoiled form of a sealed JSON file is refused in a line, or read."""
    content, source = sealed.opened(read_json(path)), hostile.seeded(seed)
    lines = []
    for _ in range(CASES):
        spoiled = hostile.spoiled(content, source)
        path.write_text(json.dumps(sealed.sealed(spoiled)))
        lines.append(hostile.refused(read, BadInput))
    assert sum(line is not None for line in lines) > needed * CASES
    for text in hostile.texts(source):
        path.write_bytes(text)
        assert hostile.refused(read, BadInput)
    path.write_text(json.dumps(content | {"seal": "0"}))
    assert "not what was written" in hostile.refused(read, BadInput)
    path.write_text(json.dumps(content))  # of 0.1.0
    assert hostile.refused(read, BadInput) is None


def test_caches(tmp_path):
    folder = tmp_path / "cache"
    record = {"latents": np.ones((2, 2, 3), np.float32), "label": 1}
    write_cache(folder, [record] * 4, {"classes": 10, "class_names": ["a"]}, 4)
    path = folder / "cache.json"
    reads_json(path, lambda: LatentCache(folder), 1)
    content = sealed.opened(read_json(path))
    (shard,) = content["shards"]
    outside = tmp_path / "records-00000.array_record"
    shutil.copy(folder / shard["file"], outside)
    for name in ("../records-00000.array_record", str(outside)):
        shards = [shard | {"file": name}]
        path.write_text(json.dumps(sealed.sealed(content | {"shards": shards})))
        line = hostile.refused(lambda: LatentCache(folder), BadInput)
        assert "no shard of a cache" in line
    whole, source = outside.read_bytes(), hostile.seeded(2)
    for data in (
        b"",
        b"x" * 70_000,
        *(hostile.bytes_of(whole, source) for _ in "abcde"),
    ):
        (folder / shard["file"]).write_bytes(data)
        shards = [shard | {"sha256": hashlib.sha256(data).hexdigest()}]
        path.write_text(json.dumps(sealed.sealed(content | {"shards": shards})))
        hostile.refused(lambda: LatentCache(folder), BadInput)


@dataclasses.dataclass(frozen=True)
class Made(Modality):
    kind, normalise = "of a hostile test", "standard"

    def source(self, train):
        return Few(3)


class Few(Source):
    def read(self, rows):
        return [Record(np.arange(8.0).reshape(4, 2) * row) for row in rows]


def test_statistics(tmp_path):
    data = Made()
    statistics.keep_statistics(data, tmp_path)
    read = lambda: statistics.keep_statistics(data, tmp_path)
    reads_json(tmp_path / statistics.FILE, read, 3)


@pytest.mark.parametrize("experiment", [TOKENIZER, JOINT], ids=lambda e: e.name)
def test_experiments(experiment, tmp_path):
    """What is read is checked as what is written: nothing odd comes through both."""
    path, source = tmp_path / "config.json", hostile.seeded(13)
    content, lines = describe(experiment), []

    def read():
        validate(read_config(path), 8, tokenizers=False)

    for _ in range(CASES):
        path.write_text(json.dumps(hostile.spoiled(content, source)))
        lines.append(hostile.refused(read, BadInput))
    assert sum(line is not None for line in lines) > CASES / 2
    for text in hostile.texts(source):
        path.write_bytes(text)
        assert hostile.refused(read, BadInput)
    path.write_text(json.dumps(content))
    assert hostile.refused(lambda: read_config(path), BadInput) is None


def test_classifiers(tmp_path):
    data, network = Images("digits", size=8, channels=1), Classifier(10, (4,))
    params = toys.drawn(network, jnp.zeros((1, 8, 8, 1)))["params"]
    protocol = {"steps": 3, "accuracy": 0.5, "data": of_judge(data)}
    vqdit.save(tmp_path, vqdit.Judge(network, params, (8, 8, 1), protocol))
    path, source, lines = tmp_path / "config.json", hostile.seeded(14), []
    content = sealed.opened(read_json(path))
    read = lambda: open_judge(str(tmp_path), data, 10)
    assert hostile.refused(read, BadInput) is None
    for _ in range(2 * CASES):
        path.write_text(json.dumps(sealed.sealed(hostile.spoiled(content, source))))
        lines.append(hostile.refused(read, BadInput))
    assert sum(line is not None for line in lines) > CASES
    for protocol in (5, "data", ["data"], None, {"dict": {"data": "x" * 9000}}):
        judge = {"dict": content["judge"]["dict"] | {"protocol": protocol}}
        path.write_text(json.dumps(sealed.sealed(content | {"judge": judge})))
        assert hostile.refused(read, BadInput), protocol


def test_rows_of_an_ablation(tmp_path):
    path = tmp_path / "row.json"
    path.write_text(json.dumps({"of": {"a": 1}, "figures": {"psnr_db": 1.0}}))
    reads_json(path, lambda: ablate.scored(TOKENIZER, tmp_path, {}), 4, needed=0.05)


FIGURES = {
    "crossings": {
        "a_to_b": {
            "examples": 7,
            "guidance_1.5": {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6]},
            "real": {"accuracy": 1.0},
        }
    },
    "curve": [{"guidance": 1.5, "image_distance": 3.0}],
    "real": {"floor_image_distance": 1.0},
    "protocol": {"sampler": {"steps": "7", "interval": "(0.2, 1.0)"}},
    "asked": {"a_to_b": {"num": 7, "sampler": {"steps": "5", "solver": "None"}}},
    "seal": "a",
}


def test_evaluations(tmp_path):
    path, source = tmp_path / "evaluation.json", hostile.seeded(11)
    digits = Images("digits", size=8, channels=1)
    experiment = of_values("a", digits, {name: Labels(10) for name in "ab"})
    bars = ("a_to_b accuracy >= 0.5",)
    experiment = dataclasses.replace(experiment, bars=bars)
    read = lambda: page._evaluation(path, experiment)
    said = []
    for _ in range(CASES):
        path.write_text(json.dumps(hostile.spoiled(FIGURES, source)))
        said.append(hostile.refused(read, BadInput))
    assert sum(line is not None for line in said) > 0.1 * CASES
    for text in hostile.texts(source):
        path.write_bytes(text)
        assert hostile.refused(read, BadInput)
    path.write_text(json.dumps(FIGURES))
    assert hostile.refused(read, BadInput) is None


def test_scores(tmp_path):
    path, source = tmp_path / "scores.json", hostile.seeded(12)
    found = {"of": "a", "examples": 3, "nats": 1.0, "nats_error": 0.5, "bits": 2.0}
    found |= {"anomalies": {"all": {"the score": {"auc": 1, "auc_interval": [0, 1]}}}}
    found |= {
        "ranks": {"a of b": {"median_rank": 2.0}},
        "bits_per_byte": {"model": 1.0},
    }
    content = {"scores": {"seal": {"a given b": found}}}
    said = []
    for _ in range(CASES):
        path.write_text(json.dumps(sealed.sealed(hostile.spoiled(content, source))))
        said.append(hostile.refused(lambda: kept(path), BadInput))
    assert sum(line is not None for line in said) > 0.1 * CASES
    for text in (*hostile.texts(source), json.dumps(content).encode()):
        path.write_bytes(text)
        assert hostile.refused(lambda: kept(path), BadInput)
    path.write_text(json.dumps(sealed.sealed(content)))
    assert kept(path) == content["scores"]


def test_manifests(tmp_path):
    state = toy.new_state()
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(1, state, position=1, meta={"window": None})
    path = tmp_path / "c" / "1" / "manifest" / "metadata"
    content, source = json.loads(path.read_text()), hostile.seeded(5)
    del content["sha256"]
    said = []

    def read():
        say = mock.patch("train.runtime.checkpoint.checkpoints.say", said.append)
        with say, Checkpoints(tmp_path / "c") as checkpoints:
            _, position, meta = checkpoints.restore_latest(state)
        assert position >= 0 and isinstance(meta, dict)

    for _ in range(CASES // 2):
        spoiled = json.loads(json.dumps(hostile.spoiled(content, source)))
        text = json.dumps(spoiled, sort_keys=True)
        seal = {"sha256": hashlib.sha256(text.encode()).hexdigest()}
        path.write_text(json.dumps(spoiled | seal))
        hostile.refused(read, BadInput)
    for text in hostile.texts(source):
        path.write_bytes(text)
        assert hostile.refused(read, BadInput)
    assert all("\n" not in line for line in said)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A bundle of sounds, any number of channels of which are coded one by one."""
    folder = tmp_path_factory.mktemp("sound")
    codec, codes = toys.sound(), np.zeros((4, 8, 1), np.int32)
    contract = codec.contract
    vqdit.save(folder, codec)
    write_prior(folder, count_codes([codes], contract.codes, contract.fingerprint))
    return folder


SIDES = (1, 2, 3, 16, 40, 10**6, 2**31, 2**40, 2**55)
RATES = (0.0, 1.0, 8000.0, 16000.0, -1.0, 1e300, 1e-300, np.nan, np.inf)


def test_coded_files(sound, tmp_path, monkeypatch):
    """With the checksums that belong to them, those of the codes too."""
    opened = open_codec(sound)
    pick = lambda source, values: values[source.integers(len(values))]
    monkeypatch.setattr(decompress, "checksum_of_codes", lambda codes: 0)
    source, path, lines = hostile.seeded(6), tmp_path / "x.vqd", []

    def read():
        header, codes = decompress.read_codes(opened, path)
        decompress.signal_of(opened, path, header, codes)

    good = Header(
        kind="audio",
        suffix=".wav",
        bundle=bundle_name(opened.contract.fingerprint),
        shape=(40, 2),
        books=1,
        coder=Coder(),
        rate=8000.0,
        extra=bytes(12),
    )
    for case in range(4 * CASES):
        change = {
            "shape": tuple(pick(source, SIDES) for _ in range(source.integers(1, 4))),
            "rate": pick(source, RATES),
            "length": pick(source, (0, 1, 20, 40, 80, 10**6, 2**55)),
            "overlap": pick(source, (0, 1, 15, 16, 2**55)),
            "books": pick(source, (1, 2, 2**55)),
            "kind": pick(source, ("audio", "image", "", "x" * 3000, "é")),
            "suffix": pick(source, (".wav", ".png", "", "/../../x", "\x00")),
            "extra": source.bytes(int(source.integers(0, 40))),
            "coder": Coder(int(source.integers(8)), int(source.integers(16))),
            "whole": bool(source.integers(2)),
        }
        names = source.choice(list(change), source.integers(1, 4), replace=False)
        header = dataclasses.replace(good, **{name: change[name] for name in names})
        if header.coder.needs_prior:
            header = dataclasses.replace(header, prior=opened.prior.name)
        with monkeypatch.context() as patch:
            patch.setattr(container, "FREE", 2**200)  # an attacker fills up nothing
            data = pack(header, source.bytes(int(source.integers(0, 60))))
        if case % 4 == 0:
            body = hostile.bytes_of(data[:-8], source)
            data = body + container._digest(body)
        path.write_bytes(data)
        lines.append(hostile.refused(read, BadInput))
    assert 0 < lines.count(None) < 3 * CASES
    with_path = dataclasses.replace(good, suffix="/../../x")
    path.write_bytes(pack(with_path, b""))
    assert "makes no sense" in hostile.refused(read, BadInput)
    said = " ".join(filter(None, lines))
    for word in ("write --large", "channels are not", "makes no sense", "a second are"):
        assert word in said


def test_what_little_stands_for_much(sound, tmp_path):
    """Silence is filled up to where its length is believed; older files take a word."""
    opened = open_codec(sound)
    values = container.FREE + 100 * container.RATIO
    header = Header("audio", ".wav", bytes(8), (values, 1), 1, Coder())
    data = pack(header, b"payload")
    assert len(data) == 100
    assert container.unpack(data)[0] == header
    body = data[:-9]
    short = body + container._digest(body)
    with pytest.raises(BadInput, match="--large"):
        container.unpack(short)
    assert container.unpack(short, large=True)[0] == header
    # What is coded at a higher rate is longer than what it becomes again.
    longer = dataclasses.replace(header, shape=(5, 1), rate=1.0, length=values)
    assert container.unpack(pack(longer, b""))[0] == longer
    small = dataclasses.replace(header, shape=(5, 1))
    assert container.unpack(pack(small, b"payload"))[1] == b"payload"
    with pytest.raises(ValueError, match="1000000 channels"):
        opened.check_channels(10**6)


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


@pytest.mark.slow
def test_priors(sound, tmp_path):
    contract, source = open_codec(sound).contract, hostile.seeded(7)
    whole = (sound / "prior.npz").read_bytes()
    path = tmp_path / "prior.npz"
    read = lambda: read_prior(tmp_path, contract)
    for _ in range(CASES):
        path.write_bytes(hostile.bytes_of(whole, source))
        hostile.refused(read, BadInput)
    head = io.BytesIO()
    of = {"descr": "<i8", "fortran_order": False, "shape": (2**27,)}
    np.lib.format.write_array_header_1_0(head, of)
    zipped(path, {"book_0.npy": head.getvalue() + bytes(2**30)})  # a megabyte
    assert "too large" in hostile.refused(read, BadInput)
    with np.load(sound / "prior.npz") as arrays:
        arrays = dict(arrays)
    for name, value in (
        ("book_0", np.full((1, 9), np.nan)),
        ("book_0", np.full((1, 9), 2**62)),
        ("book_0", np.full((1, 9), -1)),
        ("book_0", np.zeros((1, 9, 1), int)),
        ("book_0", np.zeros((0, 9), int)),
        ("book_0", np.array(["a"])),
        ("strength", np.array([0])),
        ("strength", np.array([3])),
        ("strength", np.array([[4]] * 2)),
        ("strength", np.array([], int)),
        ("strength", np.array([4.5])),
        ("fingerprint", np.full(9, 255, np.uint8)),
    ):
        np.savez(path, **arrays | {name: value})
        assert hostile.refused(read, BadInput), (name, value)
    huge = b"\x93NUMPY\x01\x00v\x00" + (
        b"{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999,), }".ljust(
            117
        )
        + b"\n"
    )
    zipped(path, {f"{name}.npy": huge for name in arrays})
    assert hostile.refused(read, BadInput)
