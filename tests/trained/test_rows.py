"""A generator of rows of a table: what is missing is nothing, and is what is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from tests import toys
from vqdit import Category, Discrete, Labels, Masking, Number, Table
from vqdit.diffusion.objectives import Denoising
from vqdit.diffusion.times import Uniform
from vqdit.trained import conditions

TABLE = Table(
    (
        Number("age", (40.0, 60.0), (30.0, 50.0, 70.0)),
        Number("marker", (1.0,), (0.5, 2.0)),
        Category("sex", ("f", "m")),
    )
)
KEY, IDS = jax.random.key(0), jnp.arange(4)
ROWS = [
    {"age": 33, "marker": None, "sex": "f"},
    {"age": 45, "marker": 0.2, "sex": "m"},
    {"age": None, "marker": None, "sex": "m"},
    None,
]
KNOWN = TABLE.known(ROWS)


@pytest.fixture(scope="module")
def model():
    streams = [Discrete("record", (3,), TABLE.code_count), Discrete("kind", (1,), 4)]
    processes = {"record": Masking(), "kind": Masking()}
    tokenizers = {"record": TABLE, "kind": Labels(3)}
    return toys.generator(streams, processes, tokenizers, names=("x", "y", "z"))


def test_a_row_is_completed_around_what_it_has(model):
    draw = model.sampler(want="record", steps=4)
    found = draw(KEY, IDS, given={"record": ROWS})["record"]
    codes = TABLE.encode(found)
    np.testing.assert_array_equal(codes[KNOWN], TABLE.encode(ROWS)[KNOWN])
    other = draw(jax.random.key(1), IDS, given={"record": ROWS})["record"]
    assert found[1] == other[1] == ROWS[1], "as given, not the values of bins"
    assert found != other, "what is missing is drawn"
    complete = draw(KEY, IDS, given={"record": [[51, 2.5, "f"]] * 4})["record"]
    assert complete == [{"age": 51.0, "marker": 2.5, "sex": "f"}] * 4
    assert draw.compilations() == 1, "gaps or none"
    codes = TABLE.encode(ROWS)[..., None]
    binned = draw(KEY, IDS, given={"record": codes}, known={"record": KNOWN})["record"]
    assert binned[1] == {"age": 50.0, "marker": 0.5, "sex": "m"}
    # What is said to be unknown is drawn, given or not.
    known = {"record": np.array([[0, 1, 1]] * 4)}
    drawn = draw(KEY, IDS, given={"record": ROWS}, known=known)["record"]
    assert drawn[1]["age"] != 45 and drawn[1]["marker"] == 0.2


@pytest.mark.parametrize("shape", [(), (3,), (4, 2)])
def test_known_of_another_shape_is_one_line(model, shape):
    draw, known = model.sampler(want="record"), {"record": np.ones(shape)}
    with pytest.raises(ValueError, match="known 'record' is .*given of it .4, 3."):
        draw(KEY, IDS, given={"record": ROWS}, known=known)


def test_a_missing_entry_has_no_influence(model):
    """Bit for bit, whatever stands in its place."""
    score, draw = model.scorer("kind", draws=2), model.sampler(want="kind", steps=2)
    kind, codes = {"kind": [0, 1, 2, 0]}, TABLE.encode(ROWS)[..., None]
    other = np.where(KNOWN[..., None], codes, TABLE.code_count - 1).astype(np.int32)
    nats = score(KEY, IDS, kind, given={"record": ROWS}).nats
    for x in (codes, other):
        call = {"given": {"record": x}, "known": {"record": KNOWN}}
        np.testing.assert_array_equal(score(KEY, IDS, kind, **call).nats, nats)
        drawn = draw(KEY, IDS, **call)["kind"]
        np.testing.assert_array_equal(
            drawn, draw(KEY, IDS, given={"record": ROWS})["kind"]
        )
    # What is there does have some.
    changed = [{**(row or {}), "age": 70} for row in ROWS]
    assert (score(KEY, IDS, kind, given={"record": changed}).nats != nats).any()
    # And it is not scored: a row of which nothing is known costs nothing.
    rows = model.scorer("record", draws=2)(KEY, IDS, {"record": ROWS})
    assert rows.nats[3] == 0 and (rows.nats[:3] > 0).all()


def test_a_missing_entry_has_no_gradient(model):
    """Its code's row of the table of embeddings, and its logits, stay as they are."""
    processes, times = model.processes, dict.fromkeys(model.streams, Uniform())
    objective = Denoising(model.module, processes, times)
    codes = TABLE.encode(ROWS)[..., None]
    only = TABLE.code_count - 1  # "m", which stands in missing places alone
    codes[..., 0] = np.where(KNOWN, np.minimum(codes[..., 0], only - 1), only)
    batch = {
        "streams": {"record": codes, "kind": np.zeros((4, 1, 1), np.int32)},
        "known": {"record": KNOWN},
        "label": np.full(4, -1),
    }

    @jax.jit
    def loss_of(params, batch):
        return objective(params, {}, batch, KEY, 0)[0]

    value, gradient = jax.value_and_grad(loss_of)(model.params, batch)
    filled = {**batch, "streams": {**batch["streams"], "record": codes * 0 + 3}}
    filled["streams"]["record"][KNOWN] = codes[KNOWN]
    again, other = jax.value_and_grad(loss_of)(model.params, filled)
    assert value == again
    jax.tree.map(np.testing.assert_array_equal, gradient, other)
    table = gradient["record_in"]["table"]
    assert not table[only].any() and table[codes[1, 2, 0]].any()


def test_bins_come_back_with_the_bundle(model, tmp_path):
    vqdit.save(tmp_path / "bundle", model)
    again = vqdit.load(tmp_path / "bundle")
    assert again.values["record"] == TABLE


@pytest.mark.parametrize(
    "rows,message",
    [
        ([[1, 2]] * 4, "given 'record': row 0 is"),
        ([{"sex": "x"}] * 4, "given 'record': sex='x' is none of f, m"),
        ([{"agee": 1}] * 4, "did you mean age"),
        ([[1, 2, "f"], [1], [2, 3], None], "row 1 is .1.; write the columns age"),
    ],
)
def test_what_is_no_row_is_refused(model, rows, message):
    with pytest.raises(ValueError, match=message):
        model.sampler(want="kind")(KEY, IDS, given={"record": rows})


def test_classes_are_given_by_their_names_or_numbers(model):
    given = {"kind": ["y", "x", 2, "z"]}
    found, known = conditions.encoded(model, given, None)
    np.testing.assert_array_equal(found["kind"].reshape(-1), [1, 0, 2, 2])
    assert found["kind"].shape == (4, 1, 1) and known == {}
    for wrong in ([1.5], ["y", 0.5]):  # and no number is cut to one
        with pytest.raises(ValueError, match="given 'kind': label .*.5: write 0 to 2"):
            conditions.encoded(model, {"kind": wrong}, None)
    _, known = conditions.encoded(model, {"kind": ["y", None]}, None)
    assert known["kind"].tolist() == [True, False]


def test_inside_a_jit_rows_are_drawn_as_their_codes(model):
    draw = model.sampler(want="record", steps=2)
    found = jax.eval_shape(lambda key: draw(key, IDS), KEY)["record"]
    assert (found.shape, found.dtype) == ((4, 3, 1), jnp.int32)


def test_rows_are_drawn_as_their_codes_whatever_is_traced(model):
    """Parameters or what is given, beside a key that is not."""
    draw = model.sampler(want="record", steps=2)
    codes = jnp.zeros((2, 4, 1, 1), jnp.int32)
    of_params = jax.jit(lambda params: draw(KEY, IDS, params=params)["record"])
    of_given = jax.vmap(lambda kind: draw(KEY, IDS, given={"kind": kind})["record"])
    for found, shape in (
        (jax.eval_shape(of_params, model.params), (4, 3, 1)),
        (jax.eval_shape(of_given, codes), (2, 4, 3, 1)),
    ):
        assert (found.shape, found.dtype) == (shape, jnp.int32)


def test_what_is_no_list_is_refused(model):
    with pytest.raises(
        ValueError, match="given 'kind' is 2; write a list, one a sample"
    ):
        model.sampler(want="record")(KEY, IDS, given={"kind": 2})
