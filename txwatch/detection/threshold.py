"""The alert budget: which score is unusual enough, so that about so many alerts an hour follow."""

import numpy as np
from numpy.typing import NDArray


def budget_threshold(scores: NDArray[np.float64], transactions_per_hour: float, alerts_per_hour: float) -> float:
    """The score that `alerts_per_hour` of `transactions_per_hour` transactions like these reach or exceed.

    It is the (1 - alerts/transactions) quantile of the scores. On new traffic of the same kind the number of alerts in
    h hours is binomial about h * alerts_per_hour, plus the error of the quantile, which n scores fix to a relative
    1/sqrt(n * alerts/transactions). With fewer scores than one alert needs, it is the highest of them.
    """
    share = min(1.0, alerts_per_hour / transactions_per_hour)
    return float(np.quantile(scores, 1.0 - share, method="higher"))
