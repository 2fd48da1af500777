"""A trained tokenizer in use: signals of other sides, in tiles, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import toys
from vqdit.quantizers import (
    FSQ,
    GroupedQuantizer,
    ResidualQuantizer,
    VectorQuantizer,
)
from vqdit.tokenizer import (
    CausalDecoder,
    CausalEncoder,
    TiTokDecoder,
    TiTokEncoder,
    Tokenizer,
    ViTDecoder,
    ViTEncoder,
)
from vqdit.trained import codec as codecs
from vqdit.trained import inputs
from vqdit.trained.codec import Codec
from vqdit.trained.contract import LatentContract, contract_of


@pytest.fixture(scope="module")
def codec():
    """(4, 4, 1) <-> 2x2 codes of 9, two channels; convolutions and a GroupNorm."""
    return toys.codec()


def pictures(*sides, batch=2, seed=0):
    x = np.random.default_rng(seed).uniform(-1, 1, (batch, *sides, 1))
    return x.astype(np.float32)


@pytest.mark.slow
def test_a_codec_takes_sides_that_its_backbone_can(codec):
    x = pictures(8, 6)
    quantized = codec.encode(x)
    assert quantized.codes.shape == (2, 4, 3, 1) == (*codec.latents(x).shape[:3], 1)
    y = codec.decode(np.asarray(quantized.codes))
    assert y.shape == x.shape
    run = lambda m, x: m.decode(m.quantize(m.encode(x)).latents)
    whole = codec.module.apply(codec.variables, jnp.asarray(x), method=run).clip(-1, 1)
    np.testing.assert_allclose(y, whole, atol=1e-5)
    with pytest.raises(ValueError, match=r"nearest that are: \(6, 6\) or \(8, 6\)"):
        codec.encode(x[:, :7])


def test_latents_are_scaled_and_decode_on_the_codebook(codec):
    x = pictures(4, 4)
    z = codec.module.apply(codec.variables, jnp.asarray(x), method="latents")
    scaled = (z - jnp.array(codec.contract.mean)) / jnp.array(codec.contract.std)
    np.testing.assert_allclose(codec.latents(x), scaled, atol=1e-5)
    y, bare = (
        codec.decode(codec.encode(x).codes),
        codec.module.apply(codec.variables, z, method="decode"),
    )
    np.testing.assert_allclose(codec.decode_latents(scaled), y, atol=1e-5)
    assert abs(bare.clip(-1, 1) - y).max() > 0.01


def test_what_is_decoded_stays_within_bounds_where_there_are_any(codec):
    loud = jax.tree.map(lambda v: 9 * v, codec.variables)
    codes = codec.encode(pictures(4, 4)).codes
    kept = Codec(codec.module, loud, codec.contract).decode(codes)
    assert abs(kept).max() == 1
    free = dataclasses.replace(codec.contract, offset=(0.0,), scale=(2.0,))
    found = Codec(codec.module, loud, free).decode(codes)
    assert abs(found).max() > 1
    np.testing.assert_allclose(found.clip(-1, 1), kept, atol=1e-6)


def test_each_book_has_its_own_codes_and_their_own_grid(codec):
    contract = dataclasses.replace(codec.contract, codes=(9, 4), code_grid=(3,))
    codes = np.array([[[8, 3], [0, 0], [1, 2]]])
    assert inputs.tokens(contract, codes) is codes
    codes[0, 0, 1] = 4
    with pytest.raises(ValueError, match="codes of book 1 are 0 to 3; got 0 to 4"):
        inputs.tokens(contract, codes)
    alike = dataclasses.replace(contract, codes=(9, 9))
    assert alike.stream("codes") == {"grid": (3,), "vocab": 9, "books": 2}
    assert alike.stream("latents") == {"grid": (2, 2), "channels": 2}


def test_codewords_are_what_the_quantizer_has_of_each_code(codec):
    """Of FSQ (3, 3) the nine pairs of -1, 0 and 1, the first digit first."""
    words = codec.codewords()
    digits = np.stack([np.arange(9) % 3, np.arange(9) // 3], -1) - 1
    np.testing.assert_allclose(words, digits[None], atol=1e-6)
    for fields in ({"code_grid": (5,)}, {"codes": ()}):
        other = dataclasses.replace(codec.contract, **fields)
        with pytest.raises(ValueError, match="codes that are each of one latent"):
            Codec(codec.module, codec.variables, other).codewords()


@pytest.mark.slow
def test_latents_of_codes_are_sums_of_codewords(codec):
    """Of books that add up, and of books that are channels of their own."""
    book = VectorQuantizer(num_codes=5, dim=2)
    quantizers = (FSQ((3, 3)), ResidualQuantizer(book, 3), GroupedQuantizer(book, 2))
    for quantizer in quantizers:
        module = codec.module.clone(quantizer=quantizer)
        variables = toys.drawn(module, jnp.zeros((1, 4, 4, 1)))
        signal, scale = {"kind": "image", "shape": (4, 4, 1)}, quantizer.dim * (1.0,)
        contract = contract_of(module, signal, (2, 2), scale, scale, variables)
        own = Codec(module, variables, contract)
        words = own.codewords()
        books, count = len(contract.codes), contract.codes[0]
        assert words.shape == (books, count, quantizer.dim)
        np.testing.assert_allclose(words.mean(1), 0, atol=1e-6)
        draw = np.random.default_rng(0).integers
        codes = jnp.asarray(draw(0, count, (6, 2, 2, books)).astype(np.int32))
        z = module.apply(variables, codes, method="decode_codes")
        found = sum(words[i][np.asarray(codes)[..., i]] for i in range(books))
        rest = np.asarray(z - found).reshape(-1, quantizer.dim)
        np.testing.assert_allclose(rest, rest[:1].repeat(24, 0), atol=1e-5)
    scales = dataclasses.replace(codec.contract, code_grid=(5,))
    with pytest.raises(ValueError, match="each of one latent"):
        Codec(codec.module, codec.variables, scales).codewords()


def test_what_is_bound_to_its_sides_says_so():
    part = {"width": 8, "depth": 1, "heads": 2, "mlp_ratio": 1, "patch": 2}
    module = Tokenizer(
        TiTokEncoder(2, **part, out=4), TiTokDecoder((4, 4), **part, out=1), FSQ((3, 3))
    )
    variables = toys.drawn(module, jnp.zeros((1, 4, 4, 1)))
    signal = {"kind": "image", "shape": (4, 4, 1)}
    moments = (0, 0), (1, 1)
    contract = contract_of(module, signal, (2,), *moments, variables)
    codec = Codec(module, variables, contract)
    with pytest.raises(ValueError, match=r"bound to the sides \(4, 4\).*encode_tiles"):
        codec.encode(pictures(8, 8))
    assert codec.encode_tiles(pictures(8, 8), 0).codes.shape == (2, 4, 2, 1)


def test_what_a_backbone_says_of_other_sides_is_said():
    class Bound:
        def grid(self, sides):
            return sides

        def init_with_output(self, key, x, method):
            raise ValueError(f"no room for {x.shape}")

    with pytest.raises(ValueError) as refusal:
        inputs._check_sides.__wrapped__(Bound(), (8, 6, 1), (4, 4, 1))
    assert str(refusal.value) == (
        "this tokenizer is bound to the sides (4, 4) of its training (no room for "
        "(1, 8, 6, 1)); for (8, 6) use encode_tiles"
    )


def test_tiles_are_the_codec_on_each_of_them(codec):
    """Without an overlap; a last batch that is not full, and edges that stick out."""
    x = pictures(7, 8)
    tiles = codec.encode_tiles(x, 0, batch=3)
    assert tiles.codes.shape == (2, 4, 2, 2, 1)
    corner = codec.encode(x[:, :4, 4:])
    np.testing.assert_array_equal(tiles.codes[:, 1], corner.codes)
    np.testing.assert_allclose(tiles.latents[:, 1], corner.latents, atol=1e-6)
    padded = np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)), mode="edge")
    low = codec.encode(padded[:, 4:, :4])
    np.testing.assert_array_equal(tiles.codes[:, 2], low.codes)
    y = codec.decode_tiles(tiles.codes, (7, 8), 0, batch=3)
    assert y.shape == x.shape
    np.testing.assert_allclose(y[:, :4, 4:], codec.decode(corner.codes), atol=1e-6)
    again = codec.decode_tiles(tiles.latents, (7, 8), 0, batch=3)
    np.testing.assert_allclose(again, y, atol=1e-6)


def test_overlapping_tiles_are_blended(codec):
    x = pictures(6, 4)
    tiles = codec.encode_tiles(x, 2)
    assert tiles.codes.shape[:2] == (2, 2)
    first, second = (np.asarray(codec.decode(tiles.codes[:, i])) for i in range(2))
    y = codec.decode_tiles(tiles.codes, (6, 4), 2)
    np.testing.assert_allclose(y[:, :2, 0], first[:, :2, 0], atol=1e-5)
    between = (2 * first[:, 2, 0] + first[:, 2, 0] * 0 + second[:, 0, 0]) / 3
    np.testing.assert_allclose(y[:, 2, 0], between, atol=1e-5)
    with pytest.raises(ValueError, match="has 2 tiles; got"):
        codec.decode_tiles(tiles.codes[:, :1], (6, 4), 2)
    with pytest.raises(ValueError, match="overlap=4 does not fit"):
        codec.encode_tiles(x, 4)


def test_a_circle_goes_on_at_its_start(codec):
    x = pictures(4, 6)
    tiles = codec.encode_tiles(x, 0, around=1)
    turned = np.concatenate([x[:, :, 4:], x[:, :, :2]], axis=2)
    np.testing.assert_array_equal(tiles.codes[:, 1], codec.encode(turned).codes)


def test_a_codec_is_a_pytree_of_its_variables(codec):
    leaves, structure = jax.tree.flatten(codec)
    assert len(leaves) == len(jax.tree.leaves(codec.variables))
    other = jax.tree.unflatten(structure, leaves)
    assert other.module == codec.module and other.contract == codec.contract
    x = pictures(4, 4)
    inside = jax.jit(lambda codec, x: codec.decode(codec.encode(x).codes))
    expected = codec.decode(codec.encode(x).codes)
    np.testing.assert_allclose(inside(codec, x), expected, atol=1e-5)
    zeros = jax.tree.map(jnp.zeros_like, codec)
    assert not np.any(zeros.encode(x).latents)
    text = repr(codec)
    for part in ("image (4, 4, 1)", "codes of 9, 13 bits", "ConvEncoder, FSQ", "3,8"):
        assert part in text


def bad(x, place, value):
    x = x.copy()
    x.flat[place] = value
    return x


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_signals_are_checked_at_the_door(codec, kind, monkeypatch):
    """Before anything compiles, whatever holds them."""
    monkeypatch.setattr(codecs, "_run", None)
    x = pictures(4, 4)
    for wrong, message in [
        (bad(x, 3, np.nan), "not all finite"),
        (bad(x, 3, np.inf), "not all finite"),
        ((x + 1) * 127.5, r"for 0 to 255 write x / 127.5 - 1"),
        (x[:0], "got no values"),
        (x[..., 0], r"takes \(b, 4, 4, 1\)"),
        (np.concatenate([x, x], -1), r"takes \(b, 4, 4, 1\)"),
    ]:
        for method in (codec.encode, codec.latents):
            with pytest.raises(ValueError, match=message):
                method(kind(wrong))
    pixels = ((x + 1) * 127.5).astype(np.uint8)
    with pytest.raises(ValueError, match="for uint8 write x / 127.5 - 1"):
        inputs.signal(codec.module, codec.contract, kind(pixels))
    with pytest.raises(ValueError, match="not all finite"):
        codec.encode_tiles(bad(x, 3, np.nan), 0)
    with pytest.raises(ValueError, match="not all finite"):
        codec.encode_long(bad(x, 3, np.nan), 2)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_signals_that_a_jit_closes_over_are_checked(codec, kind):
    """They are no arguments of it: their values are known."""
    x, z = kind(pictures(4, 4)), kind(np.ones((2, 2, 2, 2), np.float32))
    found = jax.eval_shape(lambda: (codec.latents(x), codec.decode_latents(z)))
    assert [each.shape for each in found] == [z.shape, x.shape]
    wrong = kind(bad(pictures(4, 4), 3, np.nan))
    with pytest.raises(ValueError, match="not all finite"):
        jax.eval_shape(lambda: codec.latents(wrong))


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_codes_and_latents_are_checked_at_the_door(codec, kind, monkeypatch):
    monkeypatch.setattr(codecs, "_run", None)
    codes, z = np.ones((2, 2, 2, 1), np.int32), np.ones((2, 2, 2, 2), np.float32)
    for wrong, message in [
        (bad(codes, 3, -1), "codes of book 0 are 0 to 8; got -1 to 1"),
        (bad(codes, 3, 9), "codes of book 0 are 0 to 8; got 1 to 9"),
        (np.concatenate([codes, codes], -1), "or fewer books; got"),
        (codes[0], "codes are"),
        (codes[:0], "codes are"),
        (codes.astype(np.float32), "codes are integers"),
        (codes > 0, "latents are floats"),
        (bad(z, 3, np.nan), "not all finite"),
        (z[..., :1], "latents are"),
        (z[:0], "got no latents"),
    ]:
        with pytest.raises(ValueError, match=message):
            codec.decode(kind(wrong))
    with pytest.raises(ValueError, match="not all finite"):
        codec.decode_latents(kind(bad(z, 3, np.nan)))
    with pytest.raises(ValueError, match="0 to 8"):
        codec.decode_tiles(bad(codes, 0, 9)[:, None], (4, 4), 0)
    continuous = dataclasses.replace(codec.contract, codes=())
    with pytest.raises(ValueError, match="is continuous: decode latents, not codes"):
        inputs.tokens(continuous, kind(codes))
    for batch in (0, -1):
        with pytest.raises(ValueError, match=f"batch={batch}: write a whole number"):
            codec.encode_tiles(pictures(4, 4), 0, batch=batch)
        with pytest.raises(ValueError, match=f"batch={batch}: write a whole number"):
            codec.decode_tiles(codes[:, None], (4, 4), 0, batch=batch)
    for other in (1.5, "a", None, True):
        with pytest.raises(ValueError, match=f"batch={other!r}: write a whole number"):
            inputs.count("batch", other)


def test_what_is_known_is_of_the_sides_that_it_is_of(codec):
    """Sides that do not divide were taken for those of whole examples."""
    assert codec.known_latents(np.ones((1, 8, 6, 1))).shape == (1, 4, 3)
    with pytest.raises(ValueError, match="are not multiples of the tokenizer's factor"):
        codec.known_latents(np.ones((1, 5, 5, 1)))
    with pytest.raises(ValueError, match=r"known is \(1, 4, 4\); write \(b, 4, 4, c\)"):
        codec.known_latents(np.ones((1, 4, 4)))
    with pytest.raises(ValueError, match=r"known is \(1, 2, 2, 1\); write \(b, 2, 2\)"):
        codec.known_signal(np.ones((1, 2, 2, 1)))


def test_a_contract_of_what_nobody_said_is_empty(codec):
    contract = codec.contract
    said = contract.rate, contract.offset, contract.scale, contract.preparation
    assert said == (0.0, (), (), ()) and type(contract.rate) is float
    assert (contract.mean, contract.std) == ((0.1, -0.2), (1.5, 0.5))
    assert (contract.kind, contract.shape, contract.grid) == (
        "image",
        (4, 4, 1),
        (2, 2),
    )
    assert (contract.channels, contract.codes, contract.code_grid) == (2, (9,), (2, 2))
    assert contract.bits == pytest.approx(4 * np.log2(9))
    assert dataclasses.replace(contract, codes=(4, 8)).bits == 4 * (2 + 3)
    assert dataclasses.replace(contract, codes=()).bits == 0.0
    for own in (contract, dataclasses.replace(contract, shape=(4, 4, 3))):
        for many in (1, own.shape[-1]):
            units = {"offset": (1.0,) * many, "scale": (2.0,) * many}
            assert dataclasses.replace(own, **units).scale == (2.0,) * many
    heard = toys.sound().contract
    assert (heard.rate, heard.kind, heard.shape) == (8000.0, "audio", (16, 1))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"mean": (0.0,)}, "mean=.*: write one of each of 2 channels"),
        ({"std": (1.0,) * 3}, "std=.*: write one of each of 2 channels"),
        (
            {"offset": (0.0,) * 2, "scale": (1.0,) * 2, "shape": (4, 4, 3)},
            "offset=.*: write one of each of 3 channels",
        ),
        (
            {"offset": (0.0,), "scale": (1.0,) * 2, "shape": (4, 4, 3)},
            "scale=.*: write one of each of 3 channels",
        ),
        ({"scale": (1.0,)}, r"scale=.*: offset=\(\) needs as many"),
        (
            {"shape": (2**15, 2**15, 2)},
            "shape=.*: an example has at most 1,073,741,824",
        ),
        ({"code_grid": (2**16, 2**15)}, "code_grid=.*: an example has at most"),
        ({"code_grid": (2**15, 2**15), "codes": (9, 9)}, "at most 1,073,741,824 codes"),
    ],
)
def test_a_contract_that_cannot_be_is_refused(codec, fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(codec.contract, **fields)


def test_an_example_has_as_many_values_as_it_may(codec):
    """2^30, each of four bytes."""
    most = {"shape": (2**15, 2**15, 1), "code_grid": (2**15, 2**14), "codes": (9, 9)}
    assert dataclasses.replace(codec.contract, **most).code_grid == (2**15, 2**14)
    prepared = dataclasses.replace(codec.contract, preparation=(("far", 80.0),))
    assert prepared.preparation == (("far", 80.0),)


def test_raw_values_are_in_their_own_unit(codec):
    pixels = np.array([0, 255], np.uint8).reshape(2, 1)
    np.testing.assert_allclose(codec.from_raw(pixels), [[-1], [1]], atol=1e-6)
    np.testing.assert_array_equal(codec.to_raw(full := pixels / 255), full)
    contract = dataclasses.replace(codec.contract, offset=(5.0,), scale=(2.0,))
    series = Codec(codec.module, codec.variables, contract)
    raw = np.array([[5.0], [9.0]], np.float32)
    np.testing.assert_array_equal(series.from_raw(raw), [[0], [2]])
    np.testing.assert_array_equal(series.to_raw(series.from_raw(raw)), raw)


def test_a_normalised_signal_has_no_bounds(codec):
    contract = dataclasses.replace(codec.contract, offset=(5.0,), scale=(2.0,))
    series = Codec(codec.module, codec.variables, contract)
    assert series.encode(pictures(4, 4) + 3).codes.shape == (2, 2, 2, 1)


def test_a_latent_is_known_where_anything_of_its_block_is(codec):
    known = np.zeros((2, 4, 4, 2), np.float32)
    known[0, 3, 1, 1] = 1
    found = np.asarray(codec.known_latents(known))
    assert found.shape == (2, 2, 2) and np.argwhere(found).tolist() == [[0, 1, 0]]
    back = codec.known_signal(found)
    assert np.argwhere(back).tolist() == [[0, 2, 0], [0, 2, 1], [0, 3, 0], [0, 3, 1]]
    # A grid that is no grid of blocks, or codes of no grid: the example as a whole.
    for fields in ({"grid": (3, 2)}, {"grid": (7,)}, {"code_grid": (5,)}):
        contract = dataclasses.replace(codec.contract, **{"code_grid": ()} | fields)
        other = dataclasses.replace(codec, contract=contract)
        assert np.asarray(other.known_latents(known)).tolist() == [True, False]
        assert other.known_signal(np.ones((1, *contract.grid))) is None


CLIPS = {"channels": 4, "multipliers": (1, 1), "blocks": 1}
PATCHES = {"width": 8, "depth": 1, "heads": 2, "patch": (4, 2, 2), "causal": True}
CAUSAL = {
    "conv": (CausalEncoder(**CLIPS, out=2), CausalDecoder(**CLIPS, out=1)),
    "vit": (ViTEncoder(**PATCHES, out=2), ViTDecoder(**PATCHES, out=1)),
}


@pytest.mark.parametrize("coders", CAUSAL.values(), ids=CAUSAL)
@pytest.mark.parametrize("frames, latents", [(9, 3), (9, 5), (5, 2), (1, 1)])
def test_the_first_frame_of_a_causal_clip_is_a_latent_of_its_own(
    frames, latents, coders
):
    """Nine frames in three latents are 1 + 4 + 4, not three threes."""
    fields = {"kind": "video", "channels": 2, "codes": (), "fingerprint": "x"}
    sides, moments = {"shape": (frames, 4, 2, 1), "grid": (latents, 2, 1)}, (1.0, 1.0)
    contract = LatentContract(mean=moments, std=moments, **sides, **fields)
    clips = Codec(Tokenizer(*coders, None, dim=2), {}, contract)
    each = (frames - 1) // max(latents - 1, 1)
    for frame in range(frames):
        known = np.zeros((1, frames, 4, 2, 1))
        known[:, frame, 3] = 1
        found = np.asarray(clips.known_latents(jnp.asarray(known)))
        assert np.argwhere(found[0]).tolist() == [[-(-frame // max(each, 1)), 1, 0]]
    later = np.arange(latents)[None, :, None, None].repeat(2, 2)  # all but the first
    back = np.asarray(clips.known_signal(later))
    assert back[0].all((1, 2)).tolist() == [False, *[True] * (frames - 1)]


def test_a_token_of_no_place_is_known_with_the_whole_signal():
    """Eight tokens of 32 samples are not its eighths."""
    part = {"width": 8, "depth": 1, "heads": 2, "patch": 4}
    coders = TiTokEncoder(8, **part, out=4), TiTokDecoder((32,), **part, out=1)
    module = Tokenizer(*coders, None, dim=2)
    signal, moments = {"kind": "series", "shape": (32, 1)}, ((0, 0), (1, 1))
    series = Codec(module, {}, contract_of(module, signal, (8,), *moments, {}))
    known = np.zeros((2, 32, 1))
    known[0, :4] = 1
    assert np.asarray(series.known_latents(known)).tolist() == [True, False]
    assert series.known_signal(np.ones((1, 8))) is None
