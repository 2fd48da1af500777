"""Bundles: through disk bit for bit, or refused; whole, or not there."""

import dataclasses
import hashlib
import importlib
import json
import os
import pathlib
import shutil
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import vqdit
from tests import toys
from vqdit import Codec, Generator, Heun, VectorQuantizer, sealed
from vqdit.trained import bundle, saving
from vqdit.trained.bundle import load, read_json, save
from vqdit.trained.contract import contract_of, fingerprint, flatten, refuse_mismatch

EIGHT_BITS = [f"float8_{of}" for of in ("e4m3fn", "e5m2", "e4m3fnuz", "e8m0fnu")]


def assert_same(mine, theirs):
    """Names, types, shapes and every bit."""
    mine, theirs = (flatten(tree) for tree in (mine, theirs))
    assert mine.keys() == theirs.keys() and mine
    for name, leaf in mine.items():
        assert leaf.dtype == theirs[name].dtype, name
        assert leaf.shape == theirs[name].shape, name
        assert leaf.tobytes() == theirs[name].tobytes(), name


@pytest.fixture(scope="module")
def codec():
    return toys.codec()


@pytest.fixture(scope="module")
def generator():
    found = toys.any_to_any()
    found.class_names = ("a", "fire truck")  # names of classes are any words
    found.solvers, found.parts = {"image": Heun()}, ("word",)
    return found


def test_a_tokenizer_round_trips_bit_for_bit(tmp_path, codec):
    variables = jax.tree.map(lambda x: x, codec.variables)
    kernel = variables["params"]["into"]["kernel"]
    odd = jnp.array([3e38, -0.0, 3e38, 1e-45])  # their sum is not finite
    variables["params"]["into"]["kernel"] = (
        kernel.reshape(-1).at[:4].set(odd).reshape(kernel.shape)
    )
    variables["usage"] = jax.tree.map(lambda x: x + 1, variables["usage"])
    save(tmp_path / "tok", Codec(codec.module, variables, codec.contract))
    loaded = vqdit.load(tmp_path / "tok")
    assert isinstance(loaded, Codec)
    mark = fingerprint(variables)  # of what it was saved with
    contract = dataclasses.replace(codec.contract, fingerprint=mark)
    assert (loaded.module, loaded.contract) == (codec.module, contract)
    assert_same(loaded.variables, variables)


def test_a_generator_brings_its_tokenizers(tmp_path, generator):
    save(tmp_path / "dit", generator)
    loaded = load(str(tmp_path / "dit"))
    assert isinstance(loaded, Generator)
    assert loaded.module == generator.module
    assert loaded.processes == generator.processes
    assert loaded.class_names == ("a", "fire truck")
    assert (loaded.solvers, loaded.parts) == ({"image": Heun()}, ("word",))
    assert loaded.left_out == loaded.untrained == ()
    assert_same(loaded.params, generator.params)
    mine, theirs = generator.tokenizers["image"], loaded.tokenizers["image"]
    assert (mine.module, mine.contract) == (theirs.module, theirs.contract)
    assert_same(mine.variables, theirs.variables)
    # Self-contained: moved, it is the same, and nothing but two files a bundle.
    (tmp_path / "dit").rename(tmp_path / "moved")
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {
        f"moved/{folder}{file}"
        for folder in ("", "tokenizers/image/")
        for file in ("config.json", "model.safetensors")
    }
    assert load(tmp_path / "moved").module == generator.module


def test_a_workdir_is_its_bundle(tmp_path, codec):
    (tmp_path / "config.json").write_text("{}")  # the experiment's own
    save(tmp_path / "bundle", codec)
    assert load(tmp_path).contract == codec.contract


def flip(path: pathlib.Path, at: int):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("folder", [".", "tokenizers/image"])
@pytest.mark.parametrize("at", [9, -1])
def test_altered_weights_are_refused(tmp_path, generator, folder, at):
    save(tmp_path / "dit", generator)
    flip(tmp_path / "dit" / folder / "model.safetensors", at)
    with pytest.raises(ValueError, match="SHA-256 differs") as refusal:
        load(tmp_path / "dit")
    assert "\n" not in str(refusal.value)


def test_cut_weights_are_refused(tmp_path, codec):
    save(tmp_path / "tok", codec)
    weights = tmp_path / "tok" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="SHA-256 differs"):
        load(tmp_path / "tok")
    weights.unlink()
    with pytest.raises(ValueError, match="no whole bundle: it has no model.safetens"):
        load(tmp_path / "tok")


def rewritten(file, change):
    """A config.json that was changed, and sealed anew."""
    config = sealed.opened(read_json(file))
    change(config)
    file.write_text(json.dumps(sealed.sealed(config)))


@pytest.mark.parametrize(
    "name",
    [
        "subprocess.Popen",
        "train.config.Run",
        "flax.linen.Dense",
        "vqdit.load",
    ],
)
@pytest.mark.parametrize("place", ["module", "contract", "encoder"])
def test_a_foreign_class_is_refused(tmp_path, codec, place, name):
    save(tmp_path / "tok", codec)

    def change(config):
        owner = config["module"]["fields"] if place == "encoder" else config
        owner[place] = {"class": name, "fields": {}}

    rewritten(tmp_path / "tok" / "config.json", change)
    with pytest.raises(ValueError, match=f"'{name}' is not a dataclass or module"):
        load(tmp_path / "tok")


OWN = """
import flax.linen as nn
import jax.numpy as jnp
from vqdit.quantizers import FSQ

class Mine(FSQ):
    pass
"""


def test_a_class_of_ones_own_loads_where_its_package_is_named(
    tmp_path, monkeypatch, codec
):
    (tmp_path / "mypackage.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("mypackage").Mine((3, 3))
    module = codec.module.clone(quantizer=own)
    save(tmp_path / "tok", Codec(module, codec.variables, codec.contract))
    with pytest.raises(ValueError, match=r"write packages=\('mypackage',\)"):
        load(tmp_path / "tok")
    assert load(tmp_path / "tok", packages=("mypackage",)).module == module
    # Of a program or a notebook: nothing could ever load it.
    monkeypatch.setattr(type(own), "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Mine", type(own), raising=False)
    with pytest.raises(ValueError, match="cannot be imported by that name"):
        save(tmp_path / "other", Codec(module, codec.variables, codec.contract))
    assert not (tmp_path / "other").exists()


LEAVES = [
    ("module", "fields", "decoder", "fields", "implementation"),
    ("module", "fields", "decoder", "fields", "groups"),
    ("module", "fields", "quantizer", "fields", "levels", 0),
    ("contract", "fields", "mean", 0),
    ("contract", "fields", "std", 1),
    ("contract", "fields", "rate"),
    ("kind",),
    ("format",),
]


@pytest.mark.parametrize("at", LEAVES, ids=lambda at: str(at[-1]))
def test_a_changed_setting_is_refused_as_a_changed_weight_is(tmp_path, codec, at):
    """One seal: whatever was changed computes something else, or would."""
    save(tmp_path / "tok", codec)
    file = tmp_path / "tok" / "config.json"
    config = owner = json.loads(file.read_text())
    for key in at[:-1]:
        owner = owner[key]
    old = owner[at[-1]]
    owner[at[-1]] = f"{old}x" if isinstance(old, str) else 1 if old == 2 else 0.75
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="seal differs|format 0.75") as refusal:
        load(tmp_path / "tok")
    assert "\n" not in str(refusal.value)


def test_a_seal_cannot_be_left_out_and_spelling_does_not_break_it(tmp_path, codec):
    save(tmp_path / "tok", codec)
    file = tmp_path / "tok" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(dict(reversed(config.items())), indent=7))
    assert load(tmp_path / "tok").contract == codec.contract
    del config["seal"]
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="it has no seal"):
        load(tmp_path / "tok")
    # As 0.1.0 wrote it: known to fit its weights, though nothing else is known.
    file.write_text(json.dumps(config | {"format": 1}))
    assert load(tmp_path / "tok").contract == codec.contract
    config["contract"]["fields"]["fingerprint"] = "0" * 64
    file.write_text(json.dumps(config | {"format": 1}))
    with pytest.raises(ValueError, match="contract is of other weights"):
        load(tmp_path / "tok")


@pytest.mark.parametrize("name", ["float16", *EIGHT_BITS, "int8", "complex64", "int4"])
def test_of_every_type_arrays_come_back_or_are_not_saved(tmp_path, codec, name):
    """Of a float of eight bits there was a bundle, which no one could load."""
    more = np.ones((2, 3)).astype(getattr(jnp, name))
    variables = {**codec.variables, "usage": {"more": more}}
    made = Codec(codec.module, variables, codec.contract)
    if name == "int4":
        with pytest.raises(ValueError, match='Unknown dtype "int4"'):
            save(tmp_path / "tok", made)
        assert not any(tmp_path.iterdir())
        return
    save(tmp_path / "tok", made)
    assert_same(load(tmp_path / "tok").variables, variables)


def test_weights_in_bfloat16_come_back(tmp_path, codec):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), codec.variables["params"])
    variables = {**codec.variables, "params": half}
    save(tmp_path / "tok", Codec(codec.module, variables, codec.contract))
    assert_same(load(tmp_path / "tok").variables, variables)


def test_a_tokenizer_without_codes_comes_back(tmp_path, codec):
    module = codec.module.clone(quantizer=None, dim=2)
    params = {n: v for n, v in codec.variables["params"].items() if n != "quantizer"}
    shape = {"kind": "image", "shape": (4, 4, 1)}
    contract = contract_of(module, shape, (2, 2), (0, 0), (1, 1), {"params": params})
    save(tmp_path / "tok", Codec(module, {"params": params}, contract))
    loaded = load(tmp_path / "tok")
    assert (loaded.module, loaded.contract) == (module, contract)
    assert contract.codes == ()


def test_weights_may_say_more_of_themselves(tmp_path, codec):
    """As other writers of safetensors do, "__metadata__" of texts."""
    save(tmp_path / "tok", codec)
    data = safetensors.numpy.save(flatten(codec.variables), metadata={"format": "np"})
    (tmp_path / "tok" / "model.safetensors").write_bytes(data)
    mark = hashlib.sha256(data).hexdigest()
    rewritten(
        tmp_path / "tok" / "config.json", lambda config: config.update(sha256=mark)
    )
    assert_same(load(tmp_path / "tok").variables, codec.variables)


def test_bytes_behind_the_weights_are_refused(tmp_path, codec):
    save(tmp_path / "tok", codec)
    data = (tmp_path / "tok" / "model.safetensors").read_bytes() + b"0"
    (tmp_path / "tok" / "model.safetensors").write_bytes(data)
    mark = hashlib.sha256(data).hexdigest()
    rewritten(
        tmp_path / "tok" / "config.json", lambda config: config.update(sha256=mark)
    )
    with pytest.raises(ValueError, match="cut short, or longer than it says"):
        load(tmp_path / "tok")


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_what_is_not_finite_is_not_saved(tmp_path, codec, value):
    broken = jax.tree.map(lambda x: x + value, codec.variables["params"])
    variables = {**codec.variables, "params": broken}
    with pytest.raises(ValueError, match="params/.* is not finite"):
        save(tmp_path / "tok", Codec(codec.module, variables, codec.contract))
    assert list(tmp_path.iterdir()) == []


def other_than(codec):
    """The same with other weights."""
    nudged = jax.tree.map(lambda x: x * 1.5, codec.variables["params"])
    return Codec(codec.module, {**codec.variables, "params": nudged}, codec.contract)


@pytest.mark.parametrize("call", ["_headers", "_read"])
def test_a_bundle_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path, codec, monkeypatch, call
):
    """As `best/` is in the middle of training; its files were taken for damaged."""
    other, before = other_than(codec), getattr(bundle, call)
    save(tmp_path / "tok", codec)

    def replacing(*of):
        monkeypatch.setattr(bundle, call, before)
        save(tmp_path / "tok", other)
        return before(*of)

    monkeypatch.setattr(bundle, call, replacing)
    assert_same(load(tmp_path / "tok").variables, other.variables)

    def always(*of):
        made.append(other if len(made) % 2 else codec)
        save(tmp_path / "tok", made[-1])
        return before(*of)

    made = []
    monkeypatch.setattr(bundle, call, always)
    with pytest.raises(ValueError, match="tok is replaced while it is read; load it"):
        load(tmp_path / "tok")

    def elsewhere(*of):  # as numbers and times of files of a mount may be, at any time
        shutil.copy(tmp_path / "tok" / "config.json", tmp_path / "config.json")
        os.replace(tmp_path / "config.json", tmp_path / "tok" / "config.json")
        return before(*of)

    monkeypatch.setattr(bundle, call, elsewhere)
    assert_same(load(tmp_path / "tok").variables, made[-1].variables)


@pytest.mark.parametrize("name", ["tok", "bundle", "best"])
def test_a_bundle_that_is_gone_for_a_moment_is_waited_for(tmp_path, codec, name):
    """Until another is in its place; not for ever, where a writer was killed."""
    (tmp_path / "config.json").write_text("{}")
    save(tmp_path / name, codec)
    aside = (tmp_path / name).rename(tmp_path / f".{name}.old.{'0' * 32}")
    path = tmp_path if name == "bundle" else tmp_path / name
    back = threading.Timer(0.2, aside.rename, [tmp_path / name])
    back.start()
    assert_same(load(path).variables, codec.variables)
    back.join()
    (tmp_path / name).rename(aside)
    with pytest.raises(ValueError, match="no bundle here"):
        load(path)


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no bundle here"):
        load(tmp_path)
    for text in ("{}", "[]"):  # of a run whose training has not finished
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match="no bundle here yet; finish its training"):
            load(tmp_path)
    (tmp_path / "config.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format 1"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"format": ')
    with pytest.raises(ValueError, match="not JSON"):
        load(tmp_path)
    bare = sealed.sealed({"format": saving.FORMAT, "kind": "tokenizer"})
    (tmp_path / "config.json").write_text(json.dumps(bare))
    with pytest.raises(ValueError, match="is no whole bundle: KeyError 'module'"):
        load(tmp_path)


def test_what_is_no_file_is_told_from_nothing(tmp_path):
    """As if there were none it would be written over, a pipe waited for."""
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").mkdir()
    with pytest.raises(ValueError, match="^it is a folder$"):
        read_json(tmp_path / "a.json")
    os.mkfifo(tmp_path / "b.json")
    with pytest.raises(ValueError, match="^it is a device$"):
        read_json(tmp_path / "b.json")


class Interrupted(BaseException):
    """As KeyboardInterrupt, which no handler of errors may swallow."""


def interrupt(monkeypatch, owner, name, call):
    """The `call`-th call of a function fails halfway through its work."""
    true, seen = getattr(owner, name), []

    def failing(*given):
        seen.append(given)
        if len(seen) == call:
            if name == "_flush":
                given[0].write_bytes(given[1][:10])
            raise Interrupted
        return true(*given)

    monkeypatch.setattr(owner, name, failing)


@pytest.mark.parametrize(
    "owner,name,call",
    [(saving, "_flush", call) for call in (1, 2, 3, 4)]
    + [(pathlib.Path, "rename", call) for call in (1, 2)],
)
def test_an_interrupted_save_leaves_the_old(
    tmp_path, monkeypatch, generator, owner, name, call
):
    save(tmp_path / "dit", generator)
    params = jax.tree.map(lambda x: x + 1, generator.params)
    other = Generator(
        generator.module, params, generator.processes, generator.tokenizers
    )
    with monkeypatch.context() as patch:
        interrupt(patch, owner, name, call)
        with pytest.raises(Interrupted):
            save(tmp_path / "dit", other)
    assert_same(load(tmp_path / "dit").params, generator.params)
    assert [p.name for p in tmp_path.iterdir()] == ["dit"]
    save(tmp_path / "dit", other)
    assert_same(load(tmp_path / "dit").params, params)
    assert [p.name for p in tmp_path.iterdir()] == ["dit"]


def test_what_lies_beside_the_same_bundle_stays(tmp_path, codec):
    """Such as the counts of codes that files are compressed under."""
    save(tmp_path / "tok", codec)
    (tmp_path / "tok" / "prior.npz").write_bytes(b"counts")
    save(tmp_path / "tok", codec)
    assert (tmp_path / "tok" / "prior.npz").read_bytes() == b"counts"
    # Of other weights they would be wrong.
    params = jax.tree.map(lambda x: x + 1, codec.variables["params"])
    variables = {**codec.variables, "params": params}
    save(tmp_path / "tok", Codec(codec.module, variables, codec.contract))
    assert not (tmp_path / "tok" / "prior.npz").exists()


def everything(folder):
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_saving_deletes_nothing_but_a_bundle(tmp_path, codec, generator):
    """Not the runs of a workdir, not a folder of pictures, not a file."""
    workdir = tmp_path / "tok"
    for name in ("config.json", "metrics.jsonl", "checkpoints/5/state"):
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_bytes(b"{}")
    before = everything(workdir)
    for _ in range(2):  # as `load` reads it
        save(workdir, codec)
        assert load(workdir).contract == codec.contract
        here = everything(workdir)
        assert {n: v for n, v in here.items() if not n.startswith("bundle/")} == before

    save(tmp_path / "dit", generator)
    (tmp_path / "dit/tokenizers/image/notes.txt").write_text("mine")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/config.json").write_text("{}")
    (tmp_path / "pictures/a").mkdir(parents=True)
    (tmp_path / "pictures/a/1.png").write_bytes(b"1")
    (tmp_path / "text").write_text("a file")
    before = everything(tmp_path)
    for name in ("dit", "begun", "pictures", "text"):
        with pytest.raises(ValueError, match=f"{name} is not a bundle alone: "):
            save(tmp_path / name, codec)
    assert everything(tmp_path) == before
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    save(tmp_path / "link", codec)
    assert load(tmp_path / "empty").contract == codec.contract


def test_an_interrupted_first_save_leaves_nothing(tmp_path, monkeypatch, codec):
    interrupt(monkeypatch, saving, "_flush", 2)
    with pytest.raises(Interrupted):
        save(tmp_path / "tok", codec)
    assert list(tmp_path.iterdir()) == []


def test_fingerprint_is_of_names_types_shapes_and_bits():
    tree = {"params": {"a": np.zeros((2, 3), np.float32), "b": np.ones(1)}}
    same = {"params": {"b": np.ones(1), "a": np.zeros((2, 3), np.float32)}}
    assert fingerprint(tree) == fingerprint(same)
    others = [
        {"params": {"c": tree["params"]["a"], "b": np.ones(1)}},
        {"params": {"a": np.zeros((3, 2), np.float32), "b": np.ones(1)}},
        {"params": {"a": np.zeros((2, 3), np.int32), "b": np.ones(1)}},
        {"params": {"a": np.full((2, 3), -0.0, np.float32), "b": np.ones(1)}},
        {"stats": tree["params"]},
    ]
    assert len({fingerprint(t) for t in [tree, *others]}) == 6


def test_a_contract_says_what_stage_two_must_know(codec):
    contract = codec.contract
    assert contract.codes == (9,) and contract.channels == 2
    assert contract.bits == 4 * np.log2(9)
    # Codes have a grid of their own where there are several scales.
    scales = dataclasses.replace(contract, code_grid=(5,), codes=(9, 16))
    assert scales.bits == 5 * (np.log2(9) + 4)
    assert contract.fingerprint == fingerprint(codec.variables)
    # As many codes as may be, and one more, also of a tokenizer that has none.
    dataclasses.replace(contract, code_grid=(2**30,))
    for codes in ((9,), ()):
        with pytest.raises(ValueError, match="at most 1,073,741,824 codes"):
            dataclasses.replace(contract, code_grid=(2**30 + 1,), codes=codes)
    module = codec.module.clone(quantizer=VectorQuantizer(16, 3))
    signal = {"kind": "image", "shape": (4, 4, 1)}
    other = contract_of(module, signal, (2, 2), [0] * 3, [1] * 3, codec.variables)
    assert other.codes == (16,) and other.channels == 3
    plain = codec.module.clone(quantizer=None, dim=5)
    other = contract_of(plain, signal, (2, 2), [0] * 5, [1] * 5, codec.variables)
    assert other.codes == () and other.channels == 5 and other.bits == 0
    more = {"rate": 50, "offset": [1], "scale": [2], "preparation": [("far", 8.0)]}
    other = contract_of(plain, signal | more, (2, 2), [0] * 5, [1] * 5, codec.variables)
    assert (other.rate, other.offset, other.scale) == (50.0, (1.0,), (2.0,))
    assert other.preparation == (("far", 8.0),)
    for name, value, message in (
        ("preparation", ((None, 4),), "preparation=.*: write pairs of a name"),
        ("preparation", (("far", 8.0, 9.0),), "preparation=.*: write pairs of a name"),
        ("kind", 5, "kind=5: write a text"),
        ("fingerprint", 5, "fingerprint=5: write a text"),
    ):
        broken = dataclasses.replace(contract)
        object.__setattr__(broken, name, value)  # past the annotations' check
        with pytest.raises(ValueError, match=message):
            broken.__post_init__()


@pytest.mark.parametrize(
    "field,value", [("codes", (8,)), ("std", (1.0, 1.0)), ("fingerprint", "other")]
)
def test_another_contract_is_refused_by_its_field(codec, field, value):
    refuse_mismatch(codec.contract, dataclasses.replace(codec.contract), "the cache")
    other = dataclasses.replace(codec.contract, **{field: value})
    with pytest.raises(ValueError, match=f"the cache .* its {field} is"):
        refuse_mismatch(codec.contract, other, "the cache")
