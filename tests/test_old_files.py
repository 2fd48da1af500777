"""Files that commit 4e78b1c wrote load, draw, decode and resume as they did then.

tests/fixtures/make.py wrote them, and what was computed from them.
"""

import contextlib
import io
import json
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from PIL import Image

import vqdit
from tests.fixtures.machine import machine
from train import decompress, evaluate, stage_one, stage_two
from train.objectives import codebook
from vqdit.trained.contract import fingerprint

pytestmark = pytest.mark.optimized

# What may differ, and by how much: of codes the share that are others, of all else the
# difference's norm over the norm. 0 is bit for bit. Arithmetic that is changed on
# purpose gets its figure here, with the reason:
#   norms take their variance in two passes, (x - mean)^2 and not x^2 - mean^2, which
#   rounds otherwise in every tokenizer that has one;
#   stage two's loss is a mean over places of means over channels, which rounds the
#   number that is logged otherwise, and no parameter.
TOLERANCE = {
    "codes": 0.0,
    "latents": 2e-6,
    "decoded": 2e-6,
    "draw": 2e-6,
    "judge": 0.0,
    "files": 2e-6,
    "evaluate": 1e-7,  # means are of sums in float64
    "runs/tokenizer": 2e-6,
    "runs/series": 2e-6,
    "runs/flow": 1e-7,
    "demo/tok": 2e-6,
    "demo/flow": 2e-6,
}
# The least that is allowed on a machine that rounds otherwise than theirs.
ELSEWHERE = 2e-2

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The files' folder, and the working directory; one device."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(FIXTURES / "4e78b1c.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    devices = jax.devices()[:1]
    patch = pytest.MonkeyPatch()
    patch.setattr(jax, "devices", lambda *_: devices)
    patch.setattr(jax, "device_count", lambda *_: 1)
    patch.chdir(folder)  # the runs name their data and their tokenizers by a path
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def expected(old):
    with np.load(old / "expected.npz") as arrays:
        return dict(arrays)


def check(what, found, expected):
    """The arrays found are the expected ones of their names."""
    found = {f"{what}/{name}": np.asarray(value) for name, value in found.items()}
    wanted = {name: expected[name] for name in found}
    allowed = TOLERANCE[what]
    if str(expected["machine"]) != machine():
        allowed = max(allowed, ELSEWHERE)
    for name, want in wanted.items():
        assert found[name].shape == want.shape, name
        if not allowed:
            np.testing.assert_array_equal(found[name], want, err_msg=name)
    if what == "codes":
        wrong = sum((found[n] != v).sum() for n, v in wanted.items())
        distance = wrong / sum(v.size for v in wanted.values())
    else:
        norm = lambda tree: np.sqrt(sum(np.square(v).sum() for v in tree.values()))
        wide = {n: v.astype(np.float64) for n, v in wanted.items()}
        distance = norm({n: found[n] - v for n, v in wide.items()}) / norm(wide)
    assert distance <= allowed, f"{what} differ by {distance:.3g}"


def variables_of(bundle):
    return getattr(bundle, "variables", None) or {"params": bundle.params}


def leaves(bundle):
    named, _ = jax.tree_util.tree_flatten_with_path(variables_of(bundle))
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    return {name(path): np.asarray(leaf) for path, leaf in named}


def several(*quick, slow=()):
    """Names of what is compared; compiling makes some of them slow."""
    return [*quick, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]


def test_every_bundle_loads(old):
    found = sorted(path.name for path in Path("bundles").iterdir())
    assert len(found) == 11
    for name in found:
        assert leaves(vqdit.load(f"bundles/{name}"))


@pytest.mark.parametrize("name", several("vq", "fsq", slow=("video", "wave", "vocos")))
def test_tokenizer(name, old, expected):
    codec, x = vqdit.load(f"bundles/{name}"), expected[f"x/{name}"]
    codes = expected[f"codes/{name}"]
    check("codes", {name: codec.encode(x).codes}, expected)
    check("latents", {name: codec.latents(x)}, expected)
    check("decoded", {name: codec.decode(codes)}, expected)


@pytest.mark.parametrize("name", several("flow", "masked", slow=("joint",)))
def test_generator(name, old, expected):
    generator, key, ids = vqdit.load(f"bundles/{name}"), jax.random.key(7), np.arange(6)
    if name == "joint":
        drawn = generator.sampler(steps=3)(key, ids)
        check("draw", {f"joint/{stream}": x for stream, x in drawn.items()}, expected)
    else:
        draw = generator.sampler(steps=4, guidance=1.5)
        check("draw", {name: draw(key, ids, label=ids % 4)["image"]}, expected)


def test_judge(old, expected):
    judge = vqdit.load("bundles/judge")
    with np.load("pictures.npz") as arrays:
        image = arrays["image"][:20]
    found = {"features": judge.features(image), "predict": judge.predict(image)}
    check("judge", found, expected)


@pytest.mark.parametrize(
    "bundle, file",
    [
        ("counted", "grey.png"),
        ("vq", "picture.png"),
        pytest.param("wave", "sound.wav", marks=pytest.mark.slow),
        pytest.param("series", "series.csv", marks=pytest.mark.slow),
    ],
)
def test_coded_file(bundle, file, old, expected):
    """The first was coded with the counts of prior.npz beside the bundle."""
    words = [f"coded/{bundle}", f"--bundle=bundles/{bundle}", "--out=decoded"]
    with contextlib.redirect_stdout(io.StringIO()):
        decompress.main(words)
    check("files", {file: _values(Path("decoded", file))}, expected)


def _values(path):
    if path.suffix == ".png":
        return np.asarray(Image.open(path))
    if path.suffix == ".wav":
        return soundfile.read(path, dtype="int16")[0]
    return np.loadtxt(path, delimiter=",", skiprows=1)


@pytest.mark.parametrize(
    "name, program",
    [
        pytest.param("flow", stage_two, marks=pytest.mark.slow),
        pytest.param("tokenizer", stage_one, marks=pytest.mark.slow),
        pytest.param("series", stage_one, marks=pytest.mark.slow),
    ],
)
def test_a_run_is_continued(name, program, old, expected, capsys):
    """From step 4 of 6. The first has a cache, the last a discriminator."""
    program.main([f"--workdir=runs/{name}"])
    assert "continuing from step 4" in capsys.readouterr().err
    rows = (Path("runs") / name / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [2, 4, 6]
    last = json.loads(rows[-1])
    found = leaves(vqdit.load(f"runs/{name}"))
    found |= {metric: last[metric] for metric in ("loss", "grad_norm")}
    names = [n for n in expected if n.startswith(f"runs/{name}/")]
    assert {f"runs/{name}/{leaf}" for leaf in found} == set(names)
    check(f"runs/{name}", found, expected)
    if name == "tokenizer":
        evaluate.main([f"--workdir=runs/{name}"])
        figures = json.loads(Path(f"runs/{name}/evaluation.json").read_text())
        names = ("psnr_db", "ssim", "perplexity_0")
        check("evaluate", {n: figures[n] for n in names}, expected)


@pytest.mark.slow
def test_thirty_steps_of_the_demo(old, monkeypatch):
    """Its tokenizer, whose k-means is at step 10, and its flow.

    k-means has had a key of its own since. With the one that it shared with the next
    step, the parameters are those of then.
    """
    monkeypatch.setattr(codebook, "beside", lambda key, word: key)
    with np.load(FIXTURES / "demo.npz") as arrays:
        expected = dict(arrays)
    configs = Path(__file__).parents[1] / "configs"
    short = ["--config.run.steps=30", "--config.optimizer.warmup=5"]
    short += ["--config.mesh.data=1"]
    kmeans = "--config.kmeans.step=10"
    onto = "--config.streams.image.tokenizer=demo/tok"
    for name, program, file, change in (
        ("tok", stage_one, "demo_tokenizer.py", kmeans),
        ("flow", stage_two, "demo_flow.py", onto),
    ):
        words = [f"--config={configs / file}", f"--workdir=demo/{name}", change]
        program.main([*words, *short])
        bundle = vqdit.load(f"demo/{name}")
        found = leaves(bundle)
        flat = np.concatenate([found[key].ravel() for key in sorted(found)])
        values = {"values": flat[::370].astype(np.float32)}
        wanted = {
            f"demo/{name}/values": expected[f"{name}/values"],
            "machine": expected["machine"],
        }
        check(f"demo/{name}", values, wanted)
        if not TOLERANCE[f"demo/{name}"] and str(expected["machine"]) == machine():
            same = str(expected[f"{name}/fingerprint"])
            assert fingerprint(variables_of(bundle)) == same
