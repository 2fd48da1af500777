"""What can be read off features: linear probes and nearest neighbours."""

import dataclasses
import warnings
from collections.abc import Callable

import numpy as np

from train.errors import BadInput
from vqdit.shapes import Float, Int

# Inverse strengths of the regularisation, and neighbours, that are tried.
STRENGTHS, NEIGHBOURS = (1e-3, 1e-2, 1e-1), (1, 5, 20)
VALIDATION = 0.2  # of the training examples, which choose among them
ROUNDS, TOLERANCE = 200, 1e-3  # of the solver


@dataclasses.dataclass(frozen=True, eq=False)
class Probed:
    """Accuracies on held-out examples, and what was chosen on training ones.

    linear:     of logistic regression, whose inverse `strength` was the best.
    neighbours: of the most frequent class among the `nearest` training examples, by the
        distance of features as they are, or `scaled` as for the regression.
    """

    dim: int
    linear: float
    strength: float
    neighbours: float
    nearest: int
    scaled: bool


def probed(
    train: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, "n"],
    held: Float[np.ndarray, "m d"],
    truth: Int[np.ndarray, "m"],
) -> Probed:
    """Probes of features; a regression has them in units of their spread over the
    training examples.

    What is chosen is what is best on a fifth of the training examples, of each class as
    many, when fitted on the others; then all are fitted. Of equals the more regular is
    taken. Nothing of it sees the held-out part.
    """
    checked = validation(labels)
    center, scale = train.mean(0), train.std(0)
    scale = np.where(scale < 1e-6 * (1 + abs(center)), 1.0, scale)  # constant ones
    x = {False: (train, held)}
    x[True] = tuple(((each - center) / scale).astype(np.float32) for each in x[False])

    def tried(score, scaled, *how) -> float:
        mine, _ = x[scaled]
        return score(
            *how, mine[~checked], labels[~checked], mine[checked], labels[checked]
        )

    strength = max(STRENGTHS, key=lambda c: (tried(_linear, True, c), -c))
    ways = [(scaled, k) for scaled in x for k in NEIGHBOURS]
    scaled, nearest = max(ways, key=lambda way: (tried(_nearest, *way), way[1]))
    linear = _linear(strength, x[True][0], labels, x[True][1], truth)
    neighbours = _nearest(nearest, x[scaled][0], labels, x[scaled][1], truth)
    return Probed(train.shape[1], linear, strength, neighbours, nearest, scaled)


def validation(labels: Int[np.ndarray, "n"]) -> np.ndarray:
    """bool (n,): a fifth of each class, rounded down. Raises BadInput for too few."""
    draw, found = np.random.default_rng(0), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = draw.permutation(np.flatnonzero(labels == label))
        found[rows[: int(VALIDATION * len(rows))]] = True
    if not found.any() or len(np.unique(labels[~found])) < 2:
        raise BadInput(
            f"{len(labels)} training examples of {len(np.unique(labels))} classes: a "
            "probe needs two classes, and five examples of one"
        )
    return found


def _linear(strength, x, y, held, truth) -> float:
    from sklearn.exceptions import ConvergenceWarning  # slow to import
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=ROUNDS, tol=TOLERANCE)
        model.fit(x, y)
    return float((model.predict(held) == truth).mean())


def _nearest(count, x, y, held, truth) -> float:
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(min(count, len(x))).fit(x, y)
    return float((model.predict(held) == truth).mean())


def components(
    some: Float[np.ndarray, "n d"], most: int, solver: str = "randomized"
) -> Callable[[np.ndarray], np.ndarray]:
    """The projection on the principal components of these rows, as many as there are
    and at most `most`, those that carry more before others. solver: scikit-learn's."""
    from sklearn.decomposition import PCA

    count = min(most, *some.shape)
    fitted = PCA(count, random_state=0, svd_solver=solver).fit(some)
    return lambda x: fitted.transform(x).astype(np.float32)
