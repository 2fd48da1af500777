"""The suite of rates: on a bare machine, within its time, whatever fails."""

import json
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import pytest

from configs import digits_joint
from tests.train.devices import only_one
from train import bench
from train.config import replaced
from train.errors import BadInput
from train.objectives.costs import machine
from train.objectives.costs import streams as costs
from train.objectives.costs.streams import of_streams, stream_costs
from vqdit.diffusion import Mixture
from vqdit.dit import DiT
from vqdit.nn import Block, Discrete

one_device = pytest.fixture(only_one)

# What a machine with jax, flax, optax and orbax alone lacks.
BARE = """
import sys

LACKS = {"PIL", "array_record", "av", "beartype", "chex", "constriction", "grain",
         "jaxtyping", "matplotlib", "nibabel", "pyarrow", "safetensors", "sklearn",
         "soundfile", "tensorboardX", "tensorflow", "tensorflow_datasets", "tokenizers",
         "tqdm"}


class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in LACKS:
            raise ModuleNotFoundError(f"a bare machine has no {name}", name=name)


sys.meta_path.insert(0, Lacking())
from train import bench
from train.errors import run

run(bench.main)
"""


@pytest.mark.parametrize(
    "names",
    [
        ("copy",),
        pytest.param(
            ("product bfloat16", "search 256 x 8", "whole search 256 x 8"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["copy", "products"],
)
def test_the_suite_runs_on_a_bare_machine(names):
    words = ["--suite", "--small", f"--only={','.join(names)}"]
    done = subprocess.run(
        [sys.executable, "-c", BARE, *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["rows"]) == set(names)
    assert all(row["rate"] > 0 for row in found["rows"].values()), done.stderr
    assert all(name in done.stderr for name in found["rows"])


def test_a_word_that_no_row_has_is_refused_before_any_runs():
    with pytest.raises(BadInput, match="^--only=serach: no row has it; there are cop"):
        machine.suite(only=("copy", "serach"), items={"copy": None, "search 9 x 8": 1})


@pytest.mark.slow
def test_a_row_that_fails_says_why_and_the_others_run():
    def refuse():
        raise MemoryError("out of\n memory")

    fine = lambda: {"rate": 4.0, "unit": "GFLOP/s"}
    half = lambda: {"rate": 1.0, "unit": "samples/s", "gflops": 2.0, "of": "a"}
    items = {"a": fine, "b": refuse, "c": half}
    rows = machine.suite(items=items)["rows"]
    assert rows["a"]["rate"] == 4.0 and rows["c"]["share"] == 0.5
    assert rows["b"]["failed"] == "MemoryError: out of memory"
    late = machine.suite(1e-9, items=items)["rows"]
    assert {row["failed"] for row in late.values()} == {"the 1e-09 minutes were over"}
    assert list(machine.suite(only=("c",), items=items)["rows"]) == ["c"]


@pytest.mark.slow
def test_every_row_has_a_rate_or_a_kernel_that_a_cpu_lacks(one_device):
    rows = machine.suite(60.0, ("DiT-B/2", "VQ-16"), small=True)["rows"]
    failed = {name: row["failed"] for name, row in rows.items() if "failed" in row}
    assert all("cudnn" in name or "flash" in name for name in failed), failed
    assert len(rows) == 4 + 1 + 1 + 4


@pytest.mark.slow
def test_streams_are_timed_beside_models_of_some_of_them(one_device):
    small = {"model": DiT(width=8, depth=1, block=Block(2)), "run.batch": 2}
    experiment = replaced(digits_joint.CONFIG, small)
    found = stream_costs(experiment, 1, 2)
    steps = found["train_step"]
    assert list(steps) == [
        *("all", "all, no mask", "image alone", "name alone", "sum alone")
    ]
    for key in ("ms", "cpu_ms", "bytes"):
        alone = steps["image alone"][key] + steps["name alone"][key]
        assert steps["sum alone"][key] == pytest.approx(alone) and steps["all"][key] > 0
    assert list(found["draw"]) == [
        f"{pair}, of {of}"
        for pair in ("image from name", "name from image")
        for of in ("all", "two")
    ]


def test_each_of_three_streams_is_drawn_from_the_one_before_it(monkeypatch):
    """By the model of all and by one of the two, in the order of the experiment."""
    experiment = types.SimpleNamespace(
        streams=dict.fromkeys("abc"), run=types.SimpleNamespace(batch=2)
    )
    of = lambda experiment, names: types.SimpleNamespace(
        streams=dict.fromkeys("".join(names).upper())
    )
    asked = []

    def rehearsal(experiment):
        streams = "".join(experiment.streams)
        train_step = lambda: (streams, None, None, streams)
        return types.SimpleNamespace(train_step=train_step, streams=streams)

    monkeypatch.setattr(costs, "of_streams", of)
    monkeypatch.setattr(costs, "Rehearsal", rehearsal)
    monkeypatch.setattr(costs, "peak_bytes", lambda streams: 7 * len(streams))
    monkeypatch.setattr(costs, "_generator", lambda rehearsal: rehearsal.streams)
    draw = lambda *how: asked.append(how[:3]) or how[3:]
    monkeypatch.setattr(costs, "_draw", draw)
    timed = []

    def medians(functions, repeats):
        timed.append((list(functions.values()), repeats))
        return {n: {"ms": 100 + i, "cpu_ms": i} for i, n in enumerate(functions)}

    monkeypatch.setattr(costs, "medians", medians)
    rows = stream_costs(experiment, 5, 9)
    # Of the model twice, once without masks, and of each stream alone.
    assert timed == [(["abc", "ABC", "A", "B", "C"], 5), ([(2, 9)] * 6, 5)]
    whole = {"ms": 100, "cpu_ms": 0, "bytes": 21}
    assert rows["train_step"]["all"] == whole and rows["draw_steps"] == 9
    alone = {"ms": 102 + 103 + 104, "cpu_ms": 2 + 3 + 4, "bytes": 21}
    assert rows["train_step"]["sum alone"] == alone
    found = rows["draw"]
    assert found["c from b, of two"] == {"ms": 105, "cpu_ms": 5}
    assert list(found)[::2] == [
        f"{pair}, of all" for pair in ("a from c", "b from a", "c from b")
    ]
    assert [draw for draw in asked if draw[0] != "abc"] == [
        *(("AC", "c", "a"), ("AB", "a", "b"), ("BC", "b", "c"))
    ]


def test_one_stream_is_drawn_as_the_other_is_given(monkeypatch):
    """Zeros of its kind, as codes undecoded; each stream may be left out."""
    asked = []

    def sampler(**how):
        asked.append(how)
        return lambda *of, **given: (*of, given)

    text = Discrete("text", (6,), 32)
    generator = types.SimpleNamespace(sampler=sampler, streams={"text": text})
    key, ids, given = costs._draw(generator, "text", "image", 3, 7)()
    assert asked == [{"steps": 7, "want": "image", "decode": False}]
    x = given["given"]["text"]
    assert x.shape == (3, 6, 1) and x.dtype == jnp.int32 and not x.any()
    assert ids.tolist() == [0, 1, 2] and list(given) == ["given"]
    monkeypatch.setattr(costs, "Generator", lambda *of, **how: (*of, how))
    names = [types.SimpleNamespace(name=name) for name in "ab"]
    model = types.SimpleNamespace(streams=names, init=lambda *of: {"params": of[1:]})
    rehearsal = types.SimpleNamespace(model=model, arguments=(2,), processes="p")
    found = costs._generator(rehearsal)
    assert found == (model, (2,), "p", {}, {"left_out": ["a", "b"]})


def test_a_search_counts_a_product_of_each_vector_and_code(monkeypatch):
    """Of 4 vectors and 3 codes of 2 values in 2 ms; whole scores find the same."""
    ran = []

    def median_ms(functions, repeats):
        ran.append((repeats, functions["search"]()))
        return {"search": 2.0}

    monkeypatch.setattr(machine, "median_ms", median_ms)
    monkeypatch.setattr(machine, "peak_bytes", lambda program: 3 * 2**29)
    found = machine._search(4, 3, 2)
    assert found == machine._search(4, 3, 2, machine._whole)
    assert found == {
        "rate": 2.0,
        "unit": "vectors/ms",
        "gflops": pytest.approx(2 * 4 * 3 * 2 / 2e-3 / 1e9),
        "of": "product float32 exact",
        "gib": 1.5,
    }
    (repeats, codes), (_, same) = ran
    assert repeats == 3 and codes.tolist() == same.tolist()
    z, e = jnp.array([[0.0, 1], [3, 3]]), jnp.array([[0.0, 0], [9, 9], [2, 2]])
    assert machine._whole(z, e).tolist() == [0, 2]


def test_the_rows_are_of_the_models_that_they_name():
    rows = machine._items(False)
    asked = {name: (row.func, row.args) for name, row in rows.items()}
    search, product = machine._search, ("GFLOP/s", machine.matrix_rate)
    for name, *how in (
        ("bfloat16", "bfloat16", None),
        ("float32", "float32", None),
        ("float32 exact", "float32", "highest"),
    ):
        assert asked[f"product {name}"] == (machine._rate, (*product, *how, ()))
    assert asked["copy"] == (machine._rate, ("GB/s", machine.copy_rate, None))
    for k, d in ((16_384, 8), (262_144, 8), (262_144, 256)):
        assert asked[f"search {k:,} x {d}"] == (search, (32_768, k, d))
    found = asked["whole search 16,384 x 8"]
    assert found == (search, (32_768, 16_384, 8, machine._whole))
    assert asked["sampler DiT-B/2 50 steps"] == (machine._sampling, (False,))
    assert asked["VQ-16"] == (machine._training, ("llamagen_vq16", BATCH_16))
    for size, variant, batch in (("B", "b_2", 256), ("XL", "xl_2", 64)):
        for what, scan, remat, kernel in (
            ("own attention remat whole", True, "whole", None),
            (f"own attention remat {machine.POLICY}", True, machine.POLICY, None),
            ("own attention remat none", True, None, None),
            ("own attention remat none no scan", False, None, None),
            ("plain attention remat whole", True, "whole", "plain"),
            ("cudnn attention remat whole", True, "whole", "cudnn"),
        ):
            func, (config, words) = asked[f"DiT-{size}/2 {what}"]
            assert (func, config) == (machine._training, "imagenet_dit")
            assert set(words) == {
                f"--variant={variant}",
                f"--config.run.batch={batch}",
                f"--config.model.scan={scan}",
                f"--config.model.remat={remat}",
                f"--config.model.block.implementation={kernel}",
            }
    small = machine._items(True)
    assert small["product bfloat16"].args[2:] == ("bfloat16", None, (256,))
    assert small["copy"].args[2:] == (4096,)
    assert small["search 256 x 8"].args == (64, 256, 8)
    assert small["whole search 256 x 8"].args == (64, 256, 8, machine._whole)


BATCH_16 = ("--config.run.batch=16",)


def test_a_row_is_a_line_of_what_it_has():
    row = {"rate": 12345.67, "unit": "GFLOP/s", "gib": 1.5, "share": 0.125, "of": "a"}
    assert machine._line("x", row).split() == (
        "x 12,345.7 GFLOP/s 1.50 GiB 12.5 % of a".split()
    )
    for more in ({}, {"share": None, "of": "a"}):  # where that has no rate
        line = machine._line("x", {"rate": 1.0, "unit": "GB/s"} | more)
        assert line.split() == ["x", "1.0", "GB/s"]
    assert machine._line("x", {"failed": "why"}) == f"{'x':34} why"


def test_beside_it_stands_a_model_without_masks():
    """Of the same streams: nothing is given to it, or absent."""
    whole = digits_joint.CONFIG
    plain = of_streams(whole, tuple(whole.streams))
    assert plain == replaced(whole, {"mixture": Mixture(), "data": plain.data})
    assert plain.data == whole.sources and plain.mixture != whole.mixture


def test_a_model_of_one_stream_has_nothing_to_compare():
    with pytest.raises(BadInput, match="several streams, and the model has one"):
        stream_costs(of_streams(digits_joint.CONFIG, ("image",)))
    with pytest.raises(BadInput, match="--streams is of an experiment of stage two"):
        bench.main(["--config=demo_tokenizer", "--streams=True"])


def test_a_suite_that_is_not_asked_for_does_not_run(monkeypatch):
    monkeypatch.setattr(bench, "suite", lambda *of: pytest.fail("it ran"))
    with pytest.raises(BadInput, match="^--suite=False: leave it out$"):
        bench.main(["--suite=False"])


@pytest.mark.parametrize(
    "words, asked",
    [
        (["--suite"], (8.0, ("",), False)),
        (["--suite=True", "--small"], (8.0, ("",), True)),
        (
            ["--suite", "--minutes=2", "--only=copy,search", "--small"],
            (2, ("copy", "search"), True),
        ),
    ],
)
def test_the_suite_takes_its_options(words, asked, monkeypatch, capsys):
    monkeypatch.setattr(bench, "suite", lambda *of: {"of": of})
    bench.main(words)
    assert json.loads(capsys.readouterr().out) == {"of": json.loads(json.dumps(asked))}


def test_an_experiment_is_measured_as_it_is_asked_for(monkeypatch, capsys):
    """Known to fit, by itself or its streams beside each other; without a tokenizer."""
    asked = []
    measure = lambda name: (
        lambda *of, **how: asked.append((name, *of, how)) or {name: 1}
    )
    monkeypatch.setattr(bench, "bench", measure("bench"))
    monkeypatch.setattr(bench, "stream_costs", measure("streams"))
    fits = lambda *of, **how: asked.append((*of, how))
    monkeypatch.setattr(bench, "validate", fits)
    words = ["--config=digits_joint", "--config.run.batch=8"]
    experiment = replaced(digits_joint.CONFIG, {"run.batch": 8})
    known = (experiment, jax.device_count(), {"tokenizers": False})
    for more, *called in (
        ([], "bench", experiment, {}),
        (["--repeats=3"], "bench", experiment, {"repeats": 3}),
        (["--streams", "--repeats=3"], "streams", experiment, {"repeats": 3}),
        (["--streams=False"], "bench", experiment, {}),
    ):
        bench.main([*words, *more])
        assert asked == [known, tuple(called)]
        asked.clear()
        out, err = capsys.readouterr()
        assert json.loads(out) == {called[0]: 1}
        assert err.splitlines() == [f"compiling {experiment.name}"]
    with pytest.raises(BadInput, match="--streams is of an experiment of stage two"):
        bench.main(["--config=demo_tokenizer", "--streams"])
    assert not asked, "nothing is looked at before"
    with pytest.raises(BadInput, match="write --suite --only=search"):
        bench.main(["--search"])
    with pytest.raises(BadInput, match="--minutes is of the suite: write --suite too"):
        bench.main([*words, "--minutes=3"])


def test_the_figures_of_an_experiment_are_of_its_times_and_products(monkeypatch):
    """Six examples of 0.5e9 products: 200 ms a step and 50 ms forward, on devices whose
    best product is of 750 GFLOP/s."""
    held = {"a": jnp.ones((2, 3)), "b": jnp.ones(4)}
    state = types.SimpleNamespace(params=dict(held), stats={"averages": jnp.ones(5)})
    memory = types.SimpleNamespace(argument_size_in_bytes=7, temp_size_in_bytes=9)
    program = types.SimpleNamespace(memory_analysis=lambda: memory)
    step = lambda: [x.delete() for x in held.values()]
    rehearsal = types.SimpleNamespace(
        train_step=lambda: (program, 1.5, state, step),
        arguments=(jnp.zeros(()),),
        forward=lambda variables, x: (
            variables["params"]["a"].sum() + variables["averages"].sum() + x
        ),
        dtype="bfloat16",
        macs=lambda: 3 * 10**9,
    )
    asked = []

    def median_ms(functions, repeats):
        asked.append((list(functions), repeats))
        functions["step"]()  # which takes the state's own arrays
        assert functions["forward"]() == 6 + 5
        assert functions["256"]() == "256"
        return {"step": 200.0, "forward": 50.0, "256": 2.0, "512": 4.0}

    products = {"256": (lambda: "256", 10**9), "512": (lambda: "512", 3 * 10**9)}
    device = types.SimpleNamespace(device_kind="abacus", memory_stats=lambda: None)
    usage = types.SimpleNamespace(ru_maxrss=3)
    monkeypatch.setattr(bench, "median_ms", median_ms)
    monkeypatch.setattr(bench, "matrix_products", lambda of: {"bfloat16": products}[of])
    monkeypatch.setattr(bench.resource, "getrusage", lambda who: usage)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    monkeypatch.setattr(bench, "Rehearsal", lambda of: {"x": rehearsal}[of.name])
    experiment = types.SimpleNamespace(name="x", run=types.SimpleNamespace(batch=6))
    found = bench.bench(experiment)
    assert found == {
        "experiment": "x",
        "backend": "abacus",
        "devices": 2,
        "dtype": "bfloat16",
        "batch": 6,
        "parameters": 10,
        "forward_gmacs_per_example": 0.5,
        "compile_seconds": 1.5,
        "step_ms": 200.0,
        "forward_ms": 50.0,
        "examples_per_second": 30.0,
        "step_gflop_per_second_per_device": 45.0,
        "forward_gflop_per_second_per_device": 60.0,
        "matrix_product_gflop_per_second": 750.0,
        "step_share_of_matrix_product": pytest.approx(0.06),
        "forward_share_of_matrix_product": pytest.approx(0.08),
        "program_bytes": {"arguments": 7, "temporary": 9},
        "peak_bytes_of_device": None,
        "peak_bytes_of_process": 3072,
        "repeats": 10,
        "jax": jax.__version__,
    }
    held["a"] = state.params["a"] = jnp.ones((2, 3))
    held["b"] = state.params["b"] = jnp.ones(4)
    device.memory_stats = lambda: {"peak_bytes_in_use": 11}
    more = bench.bench(experiment, 3)
    assert (more["peak_bytes_of_device"], more["repeats"]) == (11, 3)
    assert asked == [(["step", "forward", "256", "512"], n) for n in (10, 3)]


def test_a_step_is_three_products_for_each_one_forward(monkeypatch):
    """One and two for its gradients, of two operations each: 4e9 products in a second
    are 24 GFLOP/s."""
    rehearsal = types.SimpleNamespace(
        experiment=types.SimpleNamespace(run=types.SimpleNamespace(batch=4)),
        dtype="float32",
        macs=lambda: 4 * 10**9,
        train_step=lambda: ("program", 0.0, None, "step"),
    )
    monkeypatch.setattr(machine, "_opened", lambda *_: rehearsal)
    monkeypatch.setattr(machine, "median_ms", lambda functions, _: {"step": 1e3})
    monkeypatch.setattr(machine, "peak_bytes", {"program": 2**31}.get)
    found = machine._training("x", ())
    assert found["gflops"] * jax.device_count() == 24
    assert found["rate"] == 4 and found["gib"] == 2


def test_a_guided_sampler_asks_its_network_twice_a_step(monkeypatch):
    """A network of 1e9 products an example, drawn from in a second: 50 steps of 2e9,
    twice, of the two that are drawn at once."""
    rehearsal = types.SimpleNamespace(
        experiment=types.SimpleNamespace(run=types.SimpleNamespace(batch=4)),
        model=types.SimpleNamespace(init=lambda key: {"params": jnp.zeros(1)}),
        arguments=(),
        processes={},
        dtype="float32",
        macs=lambda: 4 * 10**9,
    )
    asked = []

    def sampler(**how):
        asked.append(how)
        return lambda key, ids, label: ids

    made = types.SimpleNamespace(sampler=sampler)
    monkeypatch.setattr(machine, "_opened", lambda *_: rehearsal)
    monkeypatch.setattr(machine, "Generator", lambda *_: made)
    monkeypatch.setattr(machine, "median_ms", lambda functions, repeats: {"draw": 1e3})
    found = machine._sampling(True)
    assert asked == [{"steps": 50, "guidance": 4.0, "decode": False}]
    assert found["gflops"] == 50 * 2 * 2 * 2 and found["rate"] == 2
    assert found["of"] == "product float32"
