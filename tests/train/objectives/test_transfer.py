"""Training that starts from the weights of a trained tokenizer."""

import dataclasses
import shutil
import sys

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests import quick, toys
from tests.losses.test_perceptual import state_dict
from train import stage_one
from train.config import KMeansInit, Run, StageOne, StageTwo, Stream, replaced
from train.config.network import network
from train.errors import BadInput
from train.modalities import Images, Video
from train.objectives import bundles, denoising
from train.objectives.start import build_step, open_start
from train.objectives.transfer import Transfer
from train.runtime.log import read_metrics
from vqdit.diffusion import Gaussian, Masking
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.nn.streams import Continuous
from vqdit.quantizers import (
    EMAVectorQuantizer,
    Projected,
    ResidualQuantizer,
    SimVQ,
    VectorQuantizer,
)
from vqdit.tokenizer import (
    CausalDecoder,
    CausalEncoder,
    ConvDecoder,
    ConvEncoder,
    PerFrame,
    Tokenizer,
)
from vqdit.trained.bundle import save
from vqdit.trained.codec import Codec
from vqdit.trained.contract import contract_of
from vqdit.trained.generator import Generator

SHAPE = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}
STEPS = {"strides": ((1, 2, 2),), "patch": (1, 1, 1)}
BOOK = EMAVectorQuantizer(5, dim=2, window=64)
IMAGE = Tokenizer(ConvEncoder(**SHAPE, out=4), ConvDecoder(**SHAPE, out=1), BOOK)
FRAMES = Tokenizer(PerFrame(IMAGE.encoder), PerFrame(IMAGE.decoder), BOOK)
CAUSAL = Tokenizer(
    CausalEncoder(**SHAPE, **STEPS, out=4), CausalDecoder(**SHAPE, **STEPS, out=1), BOOK
)
CLIP = Tokenizer(
    ConvEncoder(**SHAPE, strides=STEPS["strides"], dims=3, out=4),
    ConvDecoder(**SHAPE, strides=STEPS["strides"], dims=3, out=1),
    BOOK,
)
LAYERS = [
    f"{name}/{part}" for name in ("into", "out_of") for part in ("bias", "kernel")
]
VIDEO = jax.random.uniform(jax.random.key(1), (1, 3, 4, 4, 1), minval=-1)


def shapes(module):
    return dict(jax.eval_shape(module.init, jax.random.key(0), VIDEO))


def saved(path, module, example, grid):
    variables = toys.drawn(module, example)
    codewords = variables["codebook"]["quantizer"]
    assert codewords  # the codes are a moving average, not a parameter
    kind = {2: "image", 3: "video"}[len(grid)]
    signal = {"kind": kind, "shape": example.shape[1:]}
    contract = contract_of(module, signal, grid, (0, 0), (1, 1), variables)
    variables = {name: variables[name] for name in ("params", "codebook")}
    save(path, Codec(module, variables, contract))
    return variables


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "tok"
    return path, saved(path, IMAGE, VIDEO[:, 0], (2, 2))


@pytest.mark.slow
@pytest.mark.parametrize("module", [FRAMES, CAUSAL])
def test_a_network_of_clips_starts_as_that_of_pictures(pictures, module):
    """Every frame's latent, codes and picture, exactly those of the picture's."""
    path, held = pictures
    transfer = Transfer(str(path), module)
    assert transfer.check(shapes(module)) == []
    mine = transfer.into(dict(jax.jit(module.init)(jax.random.key(0), VIDEO)))
    assert transfer.brings_codes(shapes(module))
    z = quick.apply(module, mine, VIDEO, method="encode")
    for i in range(3):
        alone = quick.apply(IMAGE, held, VIDEO[:, i], method="encode")
        np.testing.assert_allclose(z[:, i], alone, atol=1e-5)
    y, quantized = quick.apply(module, mine, VIDEO)
    for i in range(3):
        alone, expected = quick.apply(IMAGE, held, VIDEO[:, i])
        np.testing.assert_array_equal(quantized.codes[:, i], expected.codes)
        np.testing.assert_allclose(y[:, i], alone, atol=1e-5)


def test_a_kernel_that_looks_both_ways_has_the_pictures_in_its_middle(pictures):
    path, held = pictures
    variables = jax.eval_shape(CLIP.init, jax.random.key(0), VIDEO)
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), dict(variables))
    mine = Transfer(str(path), CLIP).into(ones)
    kernel = mine["params"]["encoder"]["conv_in"]["kernel"]
    expected = held["params"]["encoder"]["conv_in"]["kernel"]
    np.testing.assert_array_equal(kernel[1], expected)
    assert not kernel[0].any() and not kernel[2].any()


@pytest.mark.slow
def test_what_the_bundle_lacks_starts_new_and_is_said(pictures, capsys):
    path, _ = pictures
    deeper = CAUSAL.clone(encoder=CAUSAL.encoder.clone(mid_attention=True))
    fresh = dict(jax.jit(deeper.init)(jax.random.key(0), VIDEO))
    transfer = Transfer(str(path), deeper)
    mine = transfer.into(fresh)
    news = transfer.check(fresh)
    capsys.readouterr()
    assert news and all(name.startswith("encoder/mid_attention") for name in news)
    own = lambda tree: tree["params"]["encoder"]["mid_attention"]["query"]["kernel"]
    np.testing.assert_array_equal(own(mine), own(fresh))
    Transfer(str(path), CAUSAL).check(shapes(CAUSAL))
    assert "lacks" not in "".join(capsys.readouterr())
    transfer.check(fresh)
    found = "".join(capsys.readouterr())
    assert f"lacks {news[0]}" in found and f"{len(news) - 3} more" in found


def test_a_bundle_without_a_codebook_brings_none(tmp_path, capsys):
    save(tmp_path / "tok", toys.codec())
    module = toys.codec().module.clone(quantizer=VectorQuantizer(9, dim=2))
    transfer = Transfer(str(tmp_path / "tok"), module)
    fresh = jax.eval_shape(module.init, jax.random.key(0), VIDEO[:, 0])
    assert not transfer.brings_codes(fresh)
    assert transfer.check(fresh) == ["quantizer/codewords"]
    assert "lacks quantizer/codewords; these start new" in capsys.readouterr().err


def test_the_state_of_a_run_starts_with_the_weights_and_codes(pictures):
    path, held = pictures
    experiment = StageOne(
        name="from_pictures",
        data=Video(frames=3, size=4, examples=10),
        model=FRAMES,
        init=str(path),
        run=Run(steps=1, batch=1, save_every=1),
    )
    init, _ = build_step(experiment, open_start(experiment))

    @jax.jit
    def brought():
        state = init()
        of = [params["encoder"]["image"] for params in (state.params, state.ema)]
        return [params["conv_in"]["kernel"] for params in of], state.stats["codebook"]

    kernels, codebook = brought()
    for kernel in kernels:
        expected = held["params"]["encoder"]["conv_in"]["kernel"]
        np.testing.assert_array_equal(kernel, expected)
    for ours, theirs in zip(
        jax.tree.leaves(codebook), jax.tree.leaves(held["codebook"]), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_opens_what_it_names_once(pictures, tmp_path, monkeypatch):
    """From the command line to the loop, where its train step is made: what training
    starts from, and the networks that reconstructions are compared in and scored by."""
    path, _ = pictures
    saved(tmp_path / "clips", FRAMES, VIDEO, (3, 2, 2))
    (tmp_path / "vgg").touch()
    file = tmp_path / "clips.py"
    file.write_text(
        "from tests.train.objectives.test_transfer import *\n"
        "from train.config import Reconstructions\n"
        "CONFIG = StageOne(name='clips', data=Video(frames=3, size=16, examples=10), "
        "model=FRAMES, run=Run(steps=1, batch=8, heldout_every=1, "
        "evaluate=Reconstructions(1)))\n"
    )
    opened = []

    def counted(owner, name, real):
        def load(at, *more):
            opened.append(str(at))
            return real(at, *more)

        monkeypatch.setattr(owner, name, load)

    counted(bundles, "load", bundles.load)
    counted(safetensors.numpy, "load_file", lambda _: state_dict())
    monkeypatch.setattr(stage_one, "launch", lambda *_, **__: sys.exit("the loop"))
    words = [f"--config={file}", f"--workdir={tmp_path / 'run'}"]
    words += [f"--config.losses.features={tmp_path / 'clips'}"]
    words += [f"--config.losses.lpips={tmp_path / 'vgg'}"]
    with pytest.raises(SystemExit, match="the loop"):
        stage_one.main([*words, f"--config.init={path}"])
    named = [path, tmp_path / "clips", tmp_path / "vgg"]
    assert sorted(opened) == sorted(map(str, named))


def test_k_means_is_not_waited_for_where_codes_are_brought(pictures):
    path, _ = pictures
    experiment = StageOne(
        name="waits",
        data=Video(frames=3, size=4, examples=10),
        model=FRAMES.clone(quantizer=BOOK.clone(start="kmeans")),
        kmeans=KMeansInit(step=1),
        run=Run(steps=2, batch=1, save_every=1),
    )
    assert open_start(experiment).waits
    assert not open_start(dataclasses.replace(experiment, init=str(path))).waits


@pytest.mark.parametrize(
    ("held", "wanted", "news"),
    [
        (VectorQuantizer(5, 2), BOOK, ["counts", "sums"]),
        (BOOK, VectorQuantizer(5, 2), ["codewords"]),
        (BOOK, SimVQ(5, 2), ["basis", "frozen"]),
        (
            ResidualQuantizer(BOOK, 1),
            ResidualQuantizer(BOOK, 2),
            ["books_1/counts", "books_1/sums"],
        ),
        (BOOK, Projected(BOOK, 2), ["book/counts", "book/sums", *LAYERS]),
    ],
)
def test_codes_that_are_brought_in_part_wait_for_k_means(
    held, wanted, news, tmp_path, capsys
):
    """As do all: those of another kind of quantizer, and of fewer books, are none."""
    path, example = tmp_path / "tok", VIDEO[:, 0]
    module, signal = IMAGE.clone(quantizer=held), {"kind": "image", "shape": (4, 4, 1)}
    variables = toys.drawn(module, example)
    variables = {name: variables[name] for name in ("params", "codebook")}
    contract = contract_of(module, signal, (2, 2), (0, 0), (1, 1), variables)
    save(path, Codec(module, variables, contract))
    start = {"start": "kmeans"}
    if hasattr(wanted, "book"):
        start = {"book": wanted.book.clone(**start)}
    experiment = StageOne(
        name="waits",
        data=Images(name="digits", size=4, channels=1),
        model=IMAGE.clone(quantizer=wanted.clone(**start)),
        kmeans=KMeansInit(step=1),
        init=str(path),
        run=Run(steps=2, batch=1, save_every=1),
    )
    opened = open_start(experiment)
    assert opened.waits
    init, _ = build_step(experiment, opened)
    codebook = jax.jit(lambda: init().stats["codebook"])()
    flat = flax.traverse_util.flatten_dict(codebook, sep="/")
    ready = [leaf for name, leaf in flat.items() if name.endswith("ready")]
    assert ready and not any(ready)
    said = capsys.readouterr().err
    assert all(f"quantizer/{name}" in said for name in news[:3])


def test_a_bundle_that_does_not_fit_is_refused(pictures, tmp_path):
    path, _ = pictures
    wider = CAUSAL.clone(encoder=CAUSAL.encoder.clone(channels=8))
    with pytest.raises(BadInput, match=r"init: encoder/\S+ is .* in this model"):
        Transfer(str(path), wider).check(shapes(wider))
    coloured = jax.eval_shape(IMAGE.init, jax.random.key(0), jnp.zeros((1, 4, 4, 2)))
    message = r"encoder/conv_in/kernel is \(3, 3, 1, 4\) in .* \(3, 3, 2, 4\) in this"
    with pytest.raises(BadInput, match=message):
        Transfer(str(path), IMAGE).check(dict(coloured))
    with pytest.raises(BadInput, match="init: .*no bundle here"):
        Transfer(str(tmp_path), CAUSAL)


@pytest.mark.slow
def test_a_transformer_starts_one_of_more_streams_and_other_classes(tmp_path, capsys):
    """In its state and average; what is new is named, and starts as it would have."""
    processes = {"image": Gaussian()}
    old = toys.generator([toys.PICTURE], processes, classes=3)
    save(tmp_path / "generator", old)
    experiment = StageTwo(
        name="two",
        model=DiT(width=16, depth=1, block=Block(2), classes=4),
        streams={
            "image": Stream(Gaussian(), patch=2, shape=(4, 4, 2)),
            "word": Stream(Masking(), shape=(2, 1), codes=5),
        },
        init=str(tmp_path / "generator"),
        run=Run(steps=1, batch=1),
    )
    model, processes = network(experiment, {})
    transfer = Transfer(experiment.init, model)
    start = denoising.build_step(experiment, model, processes)[0]().params
    state = denoising.build_step(experiment, model, processes, transfer)[0]()
    news = transfer.check({"params": start})
    assert "lacks label/table" in capsys.readouterr().err
    assert {name.partition("/")[0].partition("_")[0] for name in news} == (
        {"label", "word"}
    )
    flat = flax.traverse_util.flatten_dict(old.params, sep="/")
    fresh = flax.traverse_util.flatten_dict(start, sep="/")
    for params in (state.params, state.ema):
        found = flax.traverse_util.flatten_dict(params, sep="/")
        # The one that was alone is as it was: nothing told it apart.
        row = found.pop("stream")
        np.testing.assert_array_equal(row, fresh["stream"] * np.array([[0.0], [1.0]]))
        for name, leaf in found.items():
            np.testing.assert_array_equal(leaf, (fresh if name in news else flat)[name])
    with pytest.raises(BadInput, match="block_00/attn/out/bias is .16,. in"):
        Transfer(experiment.init, model.clone(width=32)).check(
            dict(jax.eval_shape(model.clone(width=32).init, *_example(model)))
        )
    with pytest.raises(BadInput, match="init"):
        Transfer(experiment.init, IMAGE)


def _example(model):
    return jax.random.key(0), *denoising.example(model, 1)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("own", [(), ("mlp", "modulation")])
def test_blocks_are_the_bundles_scanned_or_one_by_one(scan, own, tmp_path):
    """The same model, whose blocks once are one array and once are not."""
    old = toys.any_to_any()
    module = old.module.clone(depth=2, scan=not scan)
    x = _example(module)[1:]
    params = toys.drawn(module, *x)["params"]
    save(tmp_path / "old", Generator(module, params, old.processes, old.tokenizers))
    model = module.clone(scan=scan, block=Block(2, own=own))
    transfer = Transfer(str(tmp_path / "old"), model)
    fresh = jax.eval_shape(model.init, *_example(model))
    assert transfer.check(dict(fresh)) == []
    found = transfer.into(jax.tree.map(lambda x: jnp.zeros(x.shape), dict(fresh)))
    wanted = quick.apply(module, {"params": params}, *x)
    for name, y in quick.apply(model, found, *x).items():
        np.testing.assert_allclose(y, wanted[name], atol=1e-5)
    deeper = model.clone(depth=3)
    if scan:  # one array of other blocks
        with pytest.raises(BadInput, match=r"blocks/\S+ is \(2, .*\(3, .*in this"):
            Transfer(str(tmp_path / "old"), deeper).check(
                dict(jax.eval_shape(deeper.init, *_example(deeper)))
            )


def test_blocks_that_stay_behind_are_spoken_of(tmp_path, capsys):
    old = toys.any_to_any()
    module = old.module.clone(depth=2)
    params = toys.drawn(module, *_example(module)[1:])["params"]
    save(tmp_path / "old", Generator(module, params, old.processes, old.tokenizers))
    for depth, told in ((1, "model.depth: 2 in "), (2, "")):
        model = module.clone(depth=depth)
        shapes = dict(jax.eval_shape(model.init, *_example(model)))
        assert Transfer(str(tmp_path / "old"), model).check(shapes) == []
        said = capsys.readouterr().err
        assert said.startswith(f"init: {told}") if told else not said


def test_what_computes_otherwise_with_the_same_parameters_is_spoken_of(
    tmp_path, capsys
):
    """A new stream of more axes than any had turns all tokens on as many."""
    old = toys.any_to_any()
    module = old.module.clone(positions="rotary")
    parts = old.params, old.processes, old.tokenizers
    save(tmp_path / "old", Generator(module, *parts))
    transfer = Transfer(str(tmp_path / "old"), module)
    clip = lambda axes: (*module.streams, Continuous("clip", (2,) * axes, 1))
    own = {"dtype": "bfloat16", "remat": "whole", "block": Block(2, own=("mlp",))}
    for change, told in (
        ({}, ""),
        (own | {"scan": True, "depth": 3, "classes": 2}, ""),
        ({"streams": clip(2)}, ""),
        ({"streams": clip(3)}, "model.positions, axes of all: 2 in "),
        ({"block": Block(4)}, "model.block.heads: 2 in "),
        ({"positions": "sincos"}, "model.positions: rotary in "),
        ({"time_scale": 1.0}, "model.time_scale: 1000.0 in "),
    ):
        transfer.model = module.clone(**change)
        transfer._say_of_changes()
        said = capsys.readouterr().err.splitlines()
        assert len(said) == bool(told) and all(f"init: {told}" in s for s in said)
    shapes = dict(jax.eval_shape(transfer.model.init, *_example(transfer.model)))
    assert transfer.check(shapes) == []
    assert "model.time_scale: 1000.0 in" in capsys.readouterr().err


def test_a_table_of_labels_is_of_its_classes_and_not_of_as_many(tmp_path):
    names = ("boot", "coat", "hat")
    old = toys.generator([toys.PICTURE], {"image": Gaussian()}, None, 3, names)
    save(tmp_path / "generator", old)
    variables = {"params": jax.tree.map(jnp.zeros_like, old.params)}
    for classes in (names, ()):
        transfer = Transfer(str(tmp_path / "generator"), old.module, classes)
        assert transfer.check(variables) == []
    for classes in (("hat", "coat", "boot"), ("six", "seven", "eight")):
        transfer = Transfer(str(tmp_path / "generator"), old.module, classes)
        assert transfer.check(variables) == ["label/table"]
        assert not transfer.into(variables)["params"]["label"]["table"].any()


def test_a_run_that_has_begun_needs_no_bundle_any_more(tmp_path):
    experiment = StageOne(
        name="begun",
        data=Video(frames=3, size=4, examples=10),
        model=FRAMES,
        init=str(tmp_path / "gone"),
        run=Run(steps=2, batch=1, save_every=1),
    )
    with pytest.raises(BadInput, match="gone"):
        open_start(experiment)
    start = open_start(experiment, begun=1)
    assert start.transfer is None and "gone" in start.lost and not start.waits
    # What k-means would have to make, the checkpoint may already have from the bundle.
    book = FRAMES.clone(quantizer=BOOK.clone(start="kmeans"))
    waiting = {"model": book, "kmeans": KMeansInit(step=2)}
    with pytest.raises(BadInput, match="gone"):
        open_start(dataclasses.replace(experiment, **waiting), begun=1)
    assert not open_start(dataclasses.replace(experiment, **waiting), begun=2).waits


@pytest.mark.slow
def test_a_run_goes_on_once_its_bundle_is_gone_and_never_without_a_checkpoint(
    pictures, tmp_path
):
    path = tmp_path / "from"
    shutil.copytree(pictures[0], path)
    experiment = StageOne(
        name="goes_on",
        data=Video(frames=3, size=4, examples=10),
        model=FRAMES,
        init=str(path),
        run=Run(steps=1, batch=8, save_every=1),
    )
    workdir = tmp_path / "run"
    stage_one.train(experiment, workdir)
    shutil.rmtree(path)
    longer = replaced(experiment, {"run.steps": 2})
    stage_one.train(longer, workdir)
    assert [row["step"] for row in read_metrics(workdir)][-1] == 2
    for manifest in (workdir / "checkpoints").rglob("manifest"):
        shutil.rmtree(manifest)
    with pytest.raises(BadInput):
        stage_one.train(replaced(experiment, {"run.steps": 3}), workdir)
