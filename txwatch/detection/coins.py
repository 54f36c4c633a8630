"""Rules about how long the coins lay that a transaction spends: exact where a source tells it, else a guess."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from txwatch.detection.detector import Detector, Finding, column
from txwatch.detection.reasons import Reason, btc
from txwatch.features.batch import Flags, Floats, TransactionBatch
from txwatch.features.transaction import BLOCKS_A_DAY, count_where, max_by, member_of_same, sum_by
from txwatch.wire.messages import SAT_PER_BTC
from txwatch.wire.transaction import SCRIPT_TYPES

_HEIGHTS = {
    2009: 0,
    2010: 32_489,
    2011: 100_410,
    2012: 160_037,
    2013: 214_563,
    2014: 278_005,
    2015: 336_861,
    2016: 391_182,
    2017: 446_033,
    2018: 501_951,
    2019: 556_459,
    2020: 610_691,
    2021: 663_913,
    2022: 716_599,
    2023: 769_787,
    2024: 823_786,
    2025: 877_259,
}
"""Height of the first block of each year on the main network, by the time in its header, UTC.

As block explorers list them: https://mempool.space/api/v1/mining/blocks/timestamp/<Unix seconds>.
"""
_BEGINNINGS = np.array(list(_HEIGHTS.values()), np.float64)
_BLOCKS_A_YEAR = BLOCKS_A_DAY * 365


def year_at(heights: Floats) -> Floats:
    """The moment at which the main network reached each height, in years of our era; 2011.5 is July 2011.

    Between the beginnings of two years blocks are taken to come evenly, after the last one at 144 a day.
    """
    known = np.interp(heights, _BEGINNINGS, list(_HEIGHTS))
    return np.asarray(known + np.maximum(heights - _BEGINNINGS[-1], 0.0) / _BLOCKS_A_YEAR)


@dataclass(frozen=True)
class DormantCoins(Detector):
    """Coins that lay for years move, by their real age: as many BTC in one transaction as few people ever had."""

    kinds = ("dormant_coins",)
    min_blocks: float = 5 * _BLOCKS_A_YEAR
    min_sat: float = 50 * SAT_PER_BTC
    """Of coins that old: the reward of one of the first 210,000 blocks."""

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:  # noqa: ARG002 - one interface
        inputs = batch.inputs
        old = batch.tip_height[inputs.tx] - batch.input_height >= self.min_blocks
        amount = sum_by(inputs.tx[old], np.nan_to_num(inputs.value[old]), len(batch))
        for row in np.flatnonzero(amount >= self.min_sat).tolist():
            coins = np.flatnonzero(old & (inputs.tx == row))
            mined = batch.input_coinbase[coins]
            created = year_at(batch.input_height[coins])
            years, lay = np.floor(created), year_at(batch.tip_height[[row]]) - created
            when = _span(years.min(), years.max(), ".0f")
            of = f"mined in {when}" if mined.all() else f"of {when}"
            if mined.any() and not mined.all():
                of += f" ({btc(float(np.nansum(inputs.value[coins][mined])))} of them mined)"
            text = f"{btc(amount[row])} in coins {of}, untouched for {_span(lay.min(), lay.max(), '.1f')} years"
            yield row, Reason("dormant_coins", text, "value_sat", float(amount[row]))

    def likely(self, features: Floats) -> Flags:
        spent = column(features, "value_sat") + column(features, "fee_sat")
        likely: Flags = (column(features, "input_age_max_blocks") >= self.min_blocks) & (spent >= self.min_sat)
        return likely


def _span(least: float, most: float, form: str) -> str:
    first, last = f"{least:{form}}", f"{most:{form}}"
    return first if first == last else f"{first} to {last}"


@dataclass(frozen=True)
class DormantRoundMove(Detector):
    """An exactly round, large amount out of old-style coins whose addresses were silent in the last day.

    For transactions whose source does not say how old a coin is; `DormantCoins` is for the others. What is known of
    these: the type of address in use before 2017 (P2PK, P2PKH), few coins, and no change to an address that was spent
    from, as a service in use would take it.
    """

    kinds = ("dormant_round_move",)
    min_sat: int = 100 * SAT_PER_BTC
    round_sat: int = 10 * SAT_PER_BTC
    max_inputs: int = 10

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:
        n, inputs, outputs = len(batch), batch.inputs, batch.outputs
        old = np.isin(inputs.type, [SCRIPT_TYPES.index("p2pk"), SCRIPT_TYPES.index("p2pkh")])
        all_old = count_where(inputs.tx, ~old, n) == 0
        returned = member_of_same(outputs.tx, outputs.address, inputs.tx, inputs.address)
        round_ = (outputs.value >= self.min_sat) & (outputs.value % self.round_sat == 0) & ~returned
        amount = np.nan_to_num(max_by(outputs.tx, np.where(round_, outputs.value, 0.0), n))
        kept_its_address = count_where(outputs.tx, returned, n) > 0
        silent = ~(column(features, "input_address_tx_24h") > 0)  # unknown counts as silent
        few = column(features, "input_count") <= self.max_inputs
        ages_known = ~np.isnan(column(features, "input_age_max_blocks"))
        for row in np.flatnonzero((amount > 0) & all_old & few & silent & ~kept_its_address & ~ages_known):
            text = f"exactly {btc(amount[row])} out of old-style coins without activity in the last day"
            yield int(row), Reason("dormant_round_move", text, "value_sat", float(amount[row]))
