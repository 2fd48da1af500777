import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vqdit.quantizers import kmeans


def planted(clusters=4, each=30, spread=0.05, seed=0):
    """(vectors, centres): tight clusters at the corners of a square."""
    draw = np.random.default_rng(seed)
    centres = np.array([[0, 0], [0, 4], [4, 0], [4, 4]], np.float32)[:clusters]
    x = np.repeat(centres, each, axis=0) + draw.normal(0, spread, (clusters * each, 2))
    return jnp.asarray(draw.permutation(x), jnp.float32), centres


def by_row(x):
    x = np.asarray(x)
    return x[np.lexsort(x.T)]


def test_planted_clusters_are_found():
    """By the best of some starts: two that begin in one cluster may both stay there."""
    x, centres = planted()
    best = jnp.inf
    for seed in range(5):
        centroids, counts = kmeans(jax.random.key(seed), x, 4)
        error = np.square(np.asarray(x)[:, None] - centroids).sum(-1).min(1).mean()
        if error < best:
            best, found, sizes = error, np.asarray(centroids), counts.tolist()
    distance = np.abs(found[:, None] - centres).max(-1)
    assert sizes == [30] * 4 and sorted(distance.argmin(1)) == [0, 1, 2, 3]
    # 30 vectors of spread 0.05: a standard error of 0.009.
    assert distance.min(1).max() < 0.05


def test_centroids_are_the_means_of_their_vectors_and_rounds_are_never_worse():
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    errors = []
    for iterations in (1, 40):
        centroids, counts = kmeans(jax.random.key(1), jnp.asarray(x), 5, iterations)
        distance = np.square(x[:, None] - np.asarray(centroids)).sum(-1)
        errors.append(distance.min(1).mean())
    assert (np.diff(errors) < 0).all()
    index = distance.argmin(1)
    means = np.stack([x[index == i].mean(0) for i in range(5)])
    np.testing.assert_allclose(centroids, means, atol=1e-4)
    np.testing.assert_array_equal(counts, np.bincount(index, minlength=5))


def test_empty_clusters_are_refilled():
    """Half of the starts are equal vectors, so all but one of them win nothing.

    They are moved at once, each to a vector of its own: one a round would take longer.
    """
    spread = np.stack([np.arange(8.0), np.zeros(8)], 1) + 10
    x = jnp.asarray(np.concatenate([np.zeros((40, 2)), spread]), jnp.float32)
    centroids, counts = kmeans(jax.random.key(0), x, 9, iterations=4)
    assert (counts > 0).all() and counts.sum() == 48
    np.testing.assert_allclose(by_row(centroids), by_row(np.unique(x, axis=0)))


def test_spherical_centroids_are_unit_directions():
    angles = np.repeat([0.0, 2.0, 4.0], 20) + np.tile(np.linspace(-0.1, 0.1, 20), 3)
    lengths = np.random.default_rng(0).uniform(0.1, 10, 60)
    x = lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    centroids, counts = kmeans(
        jax.random.key(2), jnp.asarray(x, jnp.float32), 3, 30, cosine=True
    )
    assert counts.tolist() == [20] * 3
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-5)
    angles = np.arctan2(*np.asarray(centroids).T[::-1])
    np.testing.assert_allclose(np.sort((angles + 1) % (2 * np.pi)), [1, 3, 5], atol=0.1)


def test_one_device_equals_eight_bit_for_bit():
    """Whole numbers, whose sums are exact in any order; ties go to the same vector."""
    x = np.random.default_rng(0).integers(-9, 9, (64, 3)).astype(np.float32)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    one = kmeans(jax.random.key(0), jnp.asarray(x), 12, iterations=8)
    sharded = jax.device_put(x, NamedSharding(mesh, P("data")))
    eight = kmeans(jax.random.key(0), sharded, 12, iterations=8)
    jax.tree.map(np.testing.assert_array_equal, one, eight)


def test_fewer_vectors_than_codes_are_refused():
    with pytest.raises(ValueError, match="5 codes needs at least 5 vectors; got 4"):
        kmeans(jax.random.key(0), jnp.zeros((4, 2)), 5)


def lloyd(x, centroids):
    """One round: the means of the vectors nearest to each."""
    index = np.square(x[:, None] - centroids).sum(-1).argmin(1)
    return np.stack([x[index == i].mean(0) for i in range(len(centroids))])


def test_rounds_are_as_many_as_asked_for():
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    key = jax.random.key(0)
    rounds = [np.asarray(kmeans(key, jnp.asarray(x), 4, n)[0]) for n in range(3)]
    assert {tuple(row) for row in rounds[0]} <= {tuple(row) for row in x}
    for before, after in itertools.pairwise(rounds):
        np.testing.assert_allclose(after, lloyd(x, before), atol=1e-6)


def test_a_centroid_without_vectors_goes_to_the_farthest():
    """Both start at 0, where all vectors are the first's: the second is 9, not 5."""
    x = jnp.array([[0.0]] * 30 + [[5.0], [9.0]])
    for seed in range(9):
        found, _ = kmeans(jax.random.key(seed), x, 2, 1)
        if (kmeans(jax.random.key(seed), x, 2, 0)[0] == 0).all():
            np.testing.assert_allclose(found[:, 0], [14 / 32, 9.0], rtol=1e-6)
            return
    raise AssertionError("no such start")
