"""How features read as reasons."""

import pytest

from txwatch.detection.reasons import feature_words


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (0.0042, "0.0042"),
        (0.8, "0.8"),
        (0.97, "0.97"),
        (0.999, "0.99"),
        (1.0, "1.0"),
        (6.94, "6.9"),
        (854_831, "854,831"),
    ],
)
def test_a_factor_below_one_is_never_said_to_be_one(ratio: float, said: str) -> None:
    """A rule that asks for less than the median would contradict itself."""
    assert feature_words("fee_rate_over_median_1h", ratio) == f"fee rate is {said} times the median of the last hour"


def test_an_entropy_is_said_in_outputs() -> None:
    assert feature_words("output_entropy", 2.0) == "value spread as if over 4.0 equal outputs"
