import pytest

from train.config.bars import met, sides
from train.errors import BadInput

FIGURES = {
    "examples": 10,
    "real": {"train_distance": 4.0},
    "curve": [{"guidance": 1.0, "distance": 9.0}, {"guidance": 2.0, "distance": 7.0}],
    "crossings": {
        "a_to_b": {
            "examples": 3,
            "guidance_1": {"accuracy": 0.9},
            "guidance_2": {"accuracy": 0.94},
            "cnn": {"accuracy": 0.96},
        },
        "a+c_to_b": {"model": {"accuracy": 0.95}},
    },
}


@pytest.mark.parametrize(
    "bar, reached",
    [
        ("a_to_b accuracy >= 0.94", True),  # at the best scale
        ("a_to_b accuracy > 0.94", False),
        ("a_to_b cnn accuracy < 0.97", True),
        ("a+c_to_b accuracy > a_to_b accuracy", True),
        ("a_to_b accuracy >= a_to_b cnn accuracy - 0.03", True),
        ("a_to_b accuracy >= a_to_b cnn accuracy - 0.01", False),
        ("distance <= 7", True),
        ("distance < train_distance * 1.5", False),
        ("distance <= train_distance + 3.0", True),
        ("examples >= 10", True),
        ("b_to_a accuracy >= 0.5", None),
        ("a_to_b pca accuracy >= 0.5", None),
        ("a_to_b examples >= 3", None),
        ("a_to_b accuracy >= a_to_b pca accuracy", None),
        ("a_to_b likeliest top accuracy >= 0.5", None),
    ],
)
def test_a_bar_is_met_missed_or_not_measured(bar, reached):
    assert met(bar, FIGURES)[0] is reached


def test_both_values_are_told():
    assert met("a_to_b accuracy >= 0.95", FIGURES) == (False, 0.94, 0.95)
    assert met("b_to_a accuracy >= 0.95", FIGURES) == (None, None, 0.95)


@pytest.mark.parametrize("bar", ["accuracy", "a == 1", "a >= 1 >= 2", " >= 1"])
def test_what_is_no_bar_is_refused(bar):
    with pytest.raises(BadInput, match="write such as 'audio_to_word accuracy >= 0.95"):
        sides(bar)
