"""Features of layers: what they are, what they depend on, what they cost."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import toys
from vqdit import Codec, Continuous, Discrete, DiT, Gaussian, Generator, Judge, Masking
from vqdit.diffusion import example_keys
from vqdit.diffusion.process import named
from vqdit.features import Classifier
from vqdit.nn import Block
from vqdit.quantizers import FSQ
from vqdit.tokenizer import LogMel, PerFrame, Tokenizer, ViTDecoder, ViTEncoder
from vqdit.trained.contract import contract_of
from vqdit.trained.judge import picture_shape

KEY, IDS = jax.random.key(0), np.arange(4)
IMAGE = np.linspace(-1, 1, 4 * 16, dtype=np.float32).reshape(4, 4, 4, 1)
WORD = np.arange(12).reshape(4, 3, 1) % 5


def transformer(depth=3, **fields) -> DiT:
    streams = (Continuous("image", (2, 2), 2), Discrete("word", (3,), 5))
    fields = {"block": Block(2)} | fields
    return DiT(streams, width=16, depth=depth, **fields)


def generator(module=None, left_out=("image", "word")) -> Generator:
    module = module or transformer()
    x = {"image": jnp.zeros((1, 2, 2, 2)), "word": jnp.zeros((1, 3, 1), int)}
    params = toys.drawn(module, x, dict.fromkeys(x, jnp.zeros(1)))["params"]
    processes = {"image": Gaussian(), "word": Masking()}
    return Generator(
        module, params, processes, {"image": toys.codec()}, left_out=left_out
    )


@pytest.fixture(scope="module")
def model():
    return generator()


@pytest.mark.slow
def test_a_block_is_the_network_that_ends_behind_it(model):
    """Against the same modules put together by hand, for a stream at time 0.4."""
    found = model.extractor(of="image", time=0.4, pool="tokens")(
        {"image": IMAGE}, KEY, IDS
    )
    assert list(found) == ["block_00", "block_01", "block_02"]
    keys = [named(key, "image") for key in example_keys(KEY, jnp.asarray(IDS))]
    z = model.codecs["image"].latents(IMAGE)
    t = jnp.full(1, 0.4)
    z = [model.processes["image"].corrupt(z[i : i + 1], t, keys[i])[0] for i in IDS]

    class Cut(DiT):
        """The transformer up to its second block."""

        def _stack(self, x, c, layer):
            for i in range(2):
                x = self.block.clone(parent=self, name=f"block_{i:02d}")(x, c, **layer)
            self.sow("intermediates", "end", x)
            return x

    fields = {
        f: getattr(model.module, f) for f in ("streams", "width", "depth", "block")
    }
    _, state = Cut(**fields).apply(
        {"params": model.params},
        {"image": jnp.concatenate(z)},
        {"image": jnp.full(4, 0.4)},
        mutable=["intermediates"],
    )
    end = state["intermediates"]["end"][0]
    np.testing.assert_allclose(found["block_01"], end, rtol=1e-5, atol=1e-5)
    assert abs(found["block_02"] - end).max() > 1e-2


def test_features_are_their_key_and_id_and_signals(model):
    """Whatever the batch and its order; a new time or key needs no new program."""
    extract = model.extractor("block_01", of="image")
    x, given = {"image": IMAGE, "word": WORD}, {"image": 0.5, "word": 0.2}
    found = extract(x, KEY, IDS, time=given)["block_01"]
    some = np.array([2, 0])
    part = {name: v[some] for name, v in x.items()}
    again = extract(part, KEY, some, time=given)["block_01"]
    np.testing.assert_allclose(again, found[some], rtol=1e-5, atol=1e-5)
    seen = extract.compilations()
    for other in (
        extract(x, jax.random.key(1), IDS, time=given),
        extract(x, KEY, IDS, time=given | {"image": 0.6}),
        extract(x, KEY, IDS + 1, time=given),
    ):
        assert abs(other["block_01"] - found).max() > 1e-3
    assert extract.compilations() == seen


@pytest.mark.slow
def test_data_need_no_noise(model):
    """At t = 0, bit for bit, whatever the key, by Gaussian and by masks alike."""
    extract = model.extractor("block_02", of="word", pool="flat")
    x = {"image": IMAGE, "word": WORD}
    still = extract(x)["block_02"]
    assert still.shape == (4, 3 * 16)
    np.testing.assert_array_equal(still, extract(x, KEY, IDS + 7)["block_02"])
    pure = extract.features(extract.variables, jax.tree.map(jnp.asarray, x))
    np.testing.assert_allclose(still, pure["block_02"], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="'word' is late, and .*: pass key="):
        extract(x, time=0.1)


@pytest.mark.slow
def test_streams_that_are_not_given_are_absent(model):
    """Left out where training left them out; else noise, which needs a key."""
    alone = model.extractor("block_01", of="image")({"image": IMAGE})["block_01"]
    gone = {"word": np.zeros(4)}
    x = {"image": IMAGE, "word": WORD}
    masked = model.extractor("block_01", of="image")(x, known=gone)["block_01"]
    np.testing.assert_allclose(alone, masked, rtol=1e-4, atol=1e-5)
    noisy = generator(left_out=()).extractor("block_01", of="image")
    with pytest.raises(ValueError, match="'word' is absent, and .*: pass key="):
        noisy({"image": IMAGE})
    assert noisy({"image": IMAGE}, KEY)["block_01"].shape == (4, 16)


def test_the_mean_is_of_what_is_known(model):
    known = {"word": np.array([[1, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0]])}
    x = {"word": WORD}
    tokens = model.extractor("block_01", of="word", pool="tokens")(x, known=known)
    mean = model.extractor("block_01", of="word")(x, known=known)["block_01"]
    mask = known["word"][..., None]
    expected = (tokens["block_01"] * mask).sum(1) / np.maximum(mask.sum(1), 1)
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)
    other = {"word": np.where(mask, WORD, (WORD + 1) % 5)}
    again = model.extractor("block_01", of="word")(other, known=known)["block_01"]
    np.testing.assert_array_equal(mean, again)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields", [{"scan": True}, {"remat": "whole"}, {"scan": True, "remat": "whole"}]
)
def test_a_scan_and_checkpoints_change_nothing(model, fields):
    module = transformer(**fields)
    params = dict(model.params)
    if "scan" in fields:
        blocks = [params.pop(f"block_{i:02d}") for i in range(3)]
        params["blocks"] = jax.tree.map(lambda *x: jnp.stack(x), *blocks)
    other = Generator(
        module, params, model.processes, model.tokenizers, left_out=model.left_out
    )
    layers = ("embedded", "block_01", "block_01/attn", "final_norm")
    x = {"image": IMAGE}
    for name, found in other.extractor(layers, of="image")(x).items():
        expected = model.extractor(name, of="image")(x)[name]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True])
def test_what_is_not_asked_for_is_not_there(scan):
    """Neither blocks behind the last one in the program, nor one more product in what
    is compiled of it."""

    def of(depth, layer):
        found = generator(transformer(depth, scan=scan))
        return found.extractor(layer, of="word")

    def cost(extract):
        x = {"word": WORD}
        text = str(jax.make_jaxpr(extract.features)(extract.variables, x))
        program = jax.jit(extract.features).lower(extract.variables, x).compile()
        return text.count("dot_general"), program.cost_analysis()["flops"]

    short, long = cost(of(2, "block_01")), cost(of(5, "block_01"))
    assert short == long
    assert cost(of(5, "block_02"))[1] > 1.2 * long[1]


@pytest.mark.slow
def test_features_inside_a_jit_of_ones_own(model):
    """Pure, with a gradient, and jitted within."""
    extract = model.extractor("block_01", of="image", time=0.3)

    @jax.jit
    def both(variables, x):
        pure = extract.features(variables, {"image": x}, KEY, jnp.arange(4))["block_01"]
        return pure, extract({"image": x}, KEY, IDS)["block_01"]

    pure, called = both(extract.variables, IMAGE)
    expected = extract({"image": IMAGE}, KEY, IDS)["block_01"]
    np.testing.assert_allclose(pure, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(called, expected, rtol=1e-5, atol=1e-5)
    rest = extract.variables
    loss = lambda params: both(rest | {"params": params}, IMAGE)[0].sum()
    slope = jax.grad(loss)(rest["params"])
    assert abs(slope["block_01"]["mlp"]["down"]["kernel"]).max() > 0
    assert not slope["block_02"]["mlp"]["down"]["kernel"].any()


@pytest.mark.slow
def test_a_tokenizer_gives_latents_codes_and_layers():
    codec = toys.codec()
    layers = codec.layers
    assert layers[0] == "encoder/conv_in" and layers[-3:] == (
        *("latents", "quantized", "codes"),
    )
    found = codec.extractor(layers, pool="tokens")(IMAGE)
    q = codec.encode(IMAGE)
    np.testing.assert_allclose(
        found["latents"], codec.latents(IMAGE).reshape(4, 4, 2), atol=1e-6
    )
    np.testing.assert_array_equal(found["quantized"], q.latents.reshape(4, 4, 2))
    mean = codec.extractor("codes")(IMAGE)["codes"]
    counts = [np.bincount(row.reshape(-1), minlength=9) for row in np.asarray(q.codes)]
    np.testing.assert_allclose(mean, np.stack(counts) / 4, atol=1e-6)
    end = codec.module.apply(
        codec.variables,
        jnp.asarray(IMAGE),
        method=lambda m, x: m.encoder(m.features(x)),
    )
    np.testing.assert_allclose(
        found["encoder/conv_out"], end.reshape(4, 4, -1), rtol=1e-5, atol=1e-6
    )
    inner = codec.extractor("encoder/mid_block_0/conv_0", pool="flat")(IMAGE)
    assert inner["encoder/mid_block_0/conv_0"].shape == (4, 4 * 4)


@pytest.mark.parametrize("remat", [None, "whole"])
def test_blocks_of_a_tokenizer_of_clips_frame_by_frame(remat):
    """A frame's features are those of a picture, and blocks have names in order."""
    size = {"patch": 2, "width": 8, "depth": 2, "heads": 2, "remat": remat}
    parts = PerFrame(ViTEncoder(**size, out=4)), PerFrame(ViTDecoder(**size, out=1))
    module = Tokenizer(*parts, FSQ((3, 3)))
    variables = toys.drawn(module, jnp.zeros((1, 3, 4, 4, 1)))
    signal = {"kind": "video", "shape": (3, 4, 4, 1)}
    contract = contract_of(module, signal, (3, 2, 2), (0.0,) * 2, (1.0,) * 2, variables)
    codec = Codec(module, variables, contract)
    blocks = [layer for layer in codec.layers if "/block_" in layer]
    assert blocks == [f"encoder/image/transformer/block_{i:02}" for i in range(2)]
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4, 4, 1)).astype(np.float32)
    found = codec.extractor(blocks, pool="tokens")(x)[blocks[1]]
    frame = codec.extractor(blocks, pool="tokens")(x[:, 1:2])[blocks[1]]
    assert found.shape == (2, 12, 8)
    np.testing.assert_allclose(found[:, 4:8], frame, rtol=1e-5, atol=1e-5)


def test_a_judge_gives_its_layers():
    network = Classifier(3, (4, 8), 5)
    params = toys.drawn(network, jnp.zeros((1, 8, 8, 1)))["params"]
    judge = Judge(network, params, (8, 8, 1), {})
    assert judge.layers == ("conv_0", "conv_1", "features", "logits")
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype(np.uint8)
    found = judge.extractor(judge.layers)(x)
    np.testing.assert_allclose(found["features"], judge.features(x), rtol=1e-5)
    np.testing.assert_array_equal(found["logits"].argmax(1), judge.predict(x))
    with pytest.raises(ValueError, match="scores uint8 images"):
        judge.extractor()(x / 255)
    # Series and volumes are made pictures, as for its figures.
    for shape in ((8, 3), (2, 8, 8, 1)):
        seen = picture_shape(shape)
        params = toys.drawn(network, jnp.zeros((1, *seen)))["params"]
        other = dataclasses.replace(judge, params=params, shape=seen)
        x = np.random.default_rng(0).uniform(-1, 1, (4, *shape)).astype(np.float32)
        found = other.extractor()(x)["features"]
        np.testing.assert_allclose(found, other.features(x), rtol=1e-4, atol=1e-5)
        with pytest.raises(ValueError, match="scores uint8 images"):
            other.extractor()(x[:, :-1])
    front = LogMel(2000, 64, 32, bands=8)  # of clips of 8 frames
    heard = dataclasses.replace(judge, front=front)
    assert heard.layers == judge.layers
    for clips, words in (
        (np.zeros((2, 256)), r"takes clips \(n, l, 1\)"),
        (np.full((2, 256, 1), np.nan), "not all finite"),
        (np.zeros((2, 300, 1)), r"scores uint8 images .*not uint8\[2, 10, 8, 1\]"),
    ):
        with pytest.raises(ValueError, match=words):
            heard.extractor()(clips)


def test_what_is_not_there_is_said_in_one_line(model):
    codec = model.codecs["image"]
    for ask, words in (
        (
            lambda: codec.extractor("encoder/down_1"),
            "no layer .* encoder/conv_in, .*, latents, quantized, codes$",
        ),
        (lambda: codec.extractor(pool="max"), "pool='max': write one of mean, fl"),
        (
            lambda: model.extractor("block_03", of="word"),
            "there are embedded, block_00",
        ),
        (lambda: model.extractor(), "of: write one of the streams image, word"),
        (lambda: model.extractor(of="sound"), "of=sound: the streams are image, wor"),
        (lambda: model.extractor(of="word", time=2.0), "time of 'word' is 2"),
        (lambda: model.extractor(of="word", time={"a": 0.5}), "time of 'a': the strea"),
        (lambda: model.extractor(of="word")({"image": IMAGE}), "features are of 'wor"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            ask()
        assert "\n" not in str(error.value)


def test_an_extractor_is_a_value():
    extract = toys.codec().extractor()
    assert dataclasses.replace(extract, pool="flat").pool == "flat"
