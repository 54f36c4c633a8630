"""Ordinary transactions: shape, counts, amount and fee rate drawn from a regime, then payees and coins."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from txwatch.lab.simulator.addresses import ADDRESS_TYPES, PROGRAM_BYTES, Address, make_address
from txwatch.lab.simulator.regimes import TOTAL_OUTPUT_SAT, Regime, interpolate
from txwatch.lab.simulator.spending import DUST_SAT, UNLOCKING, Coin, Draft, Sizes, sizes
from txwatch.lab.simulator.wallets import AddressBook, CoinPool, Draws, Flags, Numbers, Objects, by_code, one_by_one

_ONE_ONE, _ONE_TWO, _SEVERAL, _BATCH = range(4)
_SEVERAL_TO_ONE, _SEVERAL_TO_AT_MOST_TWO = 0.35, 0.8
_SWEEP = 20
"""Inputs above which a transaction is a consolidation into one output."""


class Plans(NamedTuple):
    """Outlines of transactions. `total_sat` is the wanted sum of outputs, `fee_rate` is in sat/vB."""

    inscription: Flags
    rune: Flags
    inputs: Numbers
    outputs: Numbers
    total_sat: Numbers
    fee_rate: npt.NDArray[np.float64]
    inscription_bytes: Numbers

    def where(self, chosen: Flags) -> "Plans":
        return Plans._make(column[chosen] for column in self)


def draw_plans(regime: Regime, generator: np.random.Generator, n: int) -> Plans:
    """The shapes of `n` ordinary transactions of a regime."""
    limits = np.cumsum([regime.one_in_one_out, regime.one_in_two_out, regime.several_in])
    tokens = regime.inscriptions + regime.runes
    shape = np.searchsorted(limits, generator.random(n), side="right")
    carries_share = generator.random(n)
    many_in = np.rint(interpolate(regime.inputs, generator.uniform(min(regime.inputs), 1.0, n))).astype(int)
    many_out = np.rint(interpolate(regime.outputs, generator.uniform(min(regime.outputs), 1.0, n))).astype(int)
    share = generator.random(n)
    to_one = (share < _SEVERAL_TO_ONE) | (many_in > _SWEEP)
    several_out = np.where(to_one, 1, np.where(share < _SEVERAL_TO_AT_MOST_TWO, 2, many_out))
    return Plans(
        inscription=(shape == _ONE_ONE) & (carries_share < regime.inscriptions / regime.one_in_one_out),
        rune=(shape == _ONE_TWO) & (carries_share < regime.runes / regime.one_in_two_out),
        inputs=np.where(shape == _SEVERAL, many_in, 1),
        outputs=np.choose(shape, [1, 2, several_out, many_out]),
        # Inscriptions and runes have the low end of the amounts, the other transactions the rest.
        total_sat=interpolate(TOTAL_OUTPUT_SAT, tokens + (1.0 - tokens) * generator.random(n)).astype(int),
        fee_rate=interpolate(regime.fee_rate, generator.random(n)),
        inscription_bytes=interpolate(regime.inscription_size, generator.random(n)).astype(int),
    )


MAX_FEE_SAT = 990_000
BIG_SAT = 40_000_000_000

_BLOCK = 1024
_CARRIER_SAT = {294: 0.12, 330: 0.24, 546: 0.5, 600: 0.06, 1_000: 0.04, 10_000: 0.04}
_INSCRIBED_TO_TAPROOT, _INSCRIBED_FOR_OTHERS = 0.55, 0.1
_RUNE_PAYLOAD_BYTES, _RUNE_CHANGE_SAT = (7, 24), (1_000, 300_000)
_RUNE_KEPT, _RUNE_WITH_CHANGE = 0.7, 0.5
_LEAST_PAYMENT_SAT = 1_000
_CHAINED, _ONE_ADDRESS, _CHANGE_TO_SAME_ADDRESS = 0.6, 0.5, 0.28
_POOL_MAX_SAT, _CHAIN_MAX_SAT = 10_000_000_000, 20_000_000_000
_ROUND_PAYMENT, _ROUND_FROM_SAT, _ROUND_SAT = 0.15, 1_000_000, 100_000
_PAID_BY_BIG_WALLET_SAT = (100_000, 4_000_000_000)
_RBF, _VERSION_2 = 0.51, 0.72
_MANY = 5
"""Inputs or outputs from which on the sender is likely a service."""
_SERVICE_BATCH, _SERVICE_SWEEP = 0.6, 0.5
_MULTISIG = 0.15
"""Share of the P2SH coins; the rest are P2WPKH in P2SH."""
_WAYS = [UNLOCKING[name] for name in ADDRESS_TYPES] + [UNLOCKING["p2sh_multisig"]]
"""By code of the script type; the last one is the second way for P2SH."""
_SCRIPT_BYTES = np.array([way.script_bytes for way in _WAYS])
_WITNESS_BYTES = np.array([way.witness_bytes for way in _WAYS])
_P2SH, _P2WPKH, _P2TR = (ADDRESS_TYPES.index(name) for name in ("p2sh", "p2wpkh", "p2tr"))
_SCRIPT_DIGITS = np.array([len(make_address(name, bytes(PROGRAM_BYTES[name])).script) for name in ADDRESS_TYPES])
_ECDSA_WITNESS = UNLOCKING["p2wpkh"].witness_bytes  # one byte more when the signature's R is high


class OrdinaryTraffic:
    """Ordinary transactions of one regime, without end."""

    def __init__(self, regime: Regime, draws: Draws) -> None:
        self._regime = regime
        self._draws = draws
        self._random = draws.generator
        self.book = AddressBook(draws, regime.payee_types)
        self._pool = CoinPool(draws)
        self._script_types = by_code(regime.script_types)
        self.draft = one_by_one(self._block)
        self.fee_rate = draws.of(lambda shares: interpolate(regime.fee_rate, shares))
        """An ordinary fee rate, sat/vB."""

    def _block(self) -> list[Draft]:
        plans = draw_plans(self._regime, self._random, _BLOCK)
        drafts = np.empty(_BLOCK, dtype=object)
        big = ~plans.inscription & ~plans.rune & (plans.total_sat >= BIG_SAT)
        for chosen, draw in (
            (plans.inscription, self._inscriptions),
            (plans.rune, self._runes),
            (big, self._big_wallets),
            (~plans.inscription & ~plans.rune & ~big, self._payments),
        ):
            if chosen.any():
                drafts[chosen] = draw(plans.where(chosen))
        return drafts.tolist()

    def _inscriptions(self, plans: Plans) -> list[Draft]:
        """A taproot coin with data in its witness pays one dust output, and often more than that in fee."""
        n = len(plans.inputs)
        payees = self.book.new(np.where(self._chance(_INSCRIBED_TO_TAPROOT, n), _P2TR, _P2WPKH))
        others = self._chance(_INSCRIBED_FOR_OTHERS, n)
        payees[others] = self.book.payees(int(others.sum()))
        outputs = list(map(Coin, payees.tolist(), self._carrier_sat(n).tolist()))
        senders = self.book.new(np.full(n, _P2TR))
        extra = plans.inscription_bytes - UNLOCKING["p2tr"].witness_bytes
        return self._carriers(plans, senders, [[output] for output in outputs], extra)

    def _runes(self, plans: Plans) -> list[Draft]:
        """An OP_RETURN message, and an output for the rune, which may hold the change as well."""
        n, draws = len(plans.inputs), self._draws
        senders = self.book.new(np.full(n, _P2TR))
        kept = self._chance(_RUNE_KEPT, n)
        payees = senders.copy()
        payees[~kept] = self.book.new(np.full(int((~kept).sum()), _P2TR))
        change = self._log_between(*_RUNE_CHANGE_SAT, n) * self._chance(_RUNE_WITH_CHANGE, n)
        messages = [Coin(op_return("5d" + draws.hex(draws.between(*_RUNE_PAYLOAD_BYTES))), 0) for _ in range(n)]
        paid = map(Coin, payees.tolist(), (self._carrier_sat(n) + change).tolist(), [1] * n)
        return self._carriers(plans, senders, list(map(list, zip(messages, paid, strict=True))), np.zeros(n, dtype=int))

    def _carriers(self, plans: Plans, senders: Objects, outputs: list[list[Coin]], extra: Numbers) -> list[Draft]:
        """Transactions of one taproot coin with an inscription or a rune; their last outputs can be spent later."""
        way = UNLOCKING["p2tr"]
        digits = np.array([sum([len(coin.owner.script) for coin in coins]) for coins in outputs])
        base, witness = sizes(way.script_bytes, way.witness_bytes, plans.inputs, plans.outputs, digits, extra)
        paid = np.array([sum([coin.value for coin in coins]) for coins in outputs])
        coins = self._older(senders, paid + _fees(plans.fee_rate, base, witness))
        self._pool.add([coins[-1] for coins in outputs])
        all_sizes = map(Sizes, base.tolist(), witness.tolist())
        return [
            Draft([coin], way, True, made, size) for coin, made, size in zip(coins, outputs, all_sizes, strict=True)
        ]

    def _big_wallets(self, plans: Plans) -> list[Draft]:
        """A service pays a little out of much, with the change to the same address."""
        return [self._big_wallet(plans.where(np.arange(len(plans.inputs)) == row)) for row in range(len(plans.inputs))]

    def _big_wallet(self, plan: Plans) -> Draft:
        codes = self._draws.places(self._script_types, 1)
        (wallet,) = self.book.new(codes)
        way = _WAYS[self._ways(codes)[0]]
        receivers = [*(self.book.payee() for _ in range(max(1, int(plan.outputs[0]) - 1))), wallet]
        digits = sum([len(receiver.script) for receiver in receivers])
        base, witness = sizes(way.script_bytes, way.witness_bytes, plan.inputs, np.array([len(receivers)]), digits)
        fees = _fees(plan.fee_rate, base, witness)
        low, high = _PAID_BY_BIG_WALLET_SAT
        paid = self._log_between(low, high / (len(receivers) - 1), len(receivers) - 1)
        values = [*paid.tolist(), int(plan.total_sat[0] - paid.sum())]
        coins = self._older(np.full(plan.inputs[0], wallet), self._split(plan.total_sat + fees, plan.inputs))
        outputs = list(map(Coin, receivers, values, range(len(values))))
        return Draft(coins, way, bool(self._chance(_RBF, 1)[0]), outputs, Sizes(int(base[0]), int(witness[0])))

    def _payments(self, plans: Plans) -> list[Draft]:
        """Payments, sweeps, consolidations and batches. One sequence holds the coins of all, another the outputs."""
        n, inputs, outputs = len(plans.inputs), plans.inputs, plans.outputs
        service = (outputs >= _MANY) & self._chance(_SERVICE_BATCH, n)
        service |= (inputs >= _MANY) & self._chance(_SERVICE_SWEEP, n)
        owners = np.empty(n, dtype=object)
        owners[service] = self.book.services(int(service.sum()))
        codes = self._draws.places(self._script_types, n)
        codes[service] = [ADDRESS_TYPES.index(owner.type) for owner in owners[service]]
        ways = self._ways(codes)

        several = outputs > 1
        last = np.cumsum(outputs) - 1
        same = several & ~service & self._chance(_CHANGE_TO_SAME_ADDRESS, n)
        own = several & ~service & ~same
        paid = np.ones(outputs.sum(), dtype=bool)
        paid[last[several | service]] = False
        receivers = np.empty(len(paid), dtype=object)
        receivers[paid] = self.book.payees(int(paid.sum()))
        receivers[last[service]] = owners[service]
        receivers[last[own]] = self.book.new(codes[own])
        digits = np.zeros(len(paid), dtype=int)
        digits[last[same]] = _SCRIPT_DIGITS[codes[same]]
        known = receivers.nonzero()[0]
        digits[known] = [len(receiver.script) for receiver in receivers[known]]

        script_bytes, witness_bytes = _SCRIPT_BYTES[ways], _WITNESS_BYTES[ways]
        grinding = np.where(witness_bytes == _ECDSA_WITNESS, self._random.integers(0, inputs + 1), 0)
        total_digits = np.add.reduceat(digits, last - outputs + 1)
        base, witness = sizes(script_bytes, witness_bytes, inputs, outputs, total_digits, grinding)
        fees = _fees(plans.fee_rate, base, witness)

        coins, spent = self._coins(plans, fees, codes, owners, service)
        amounts = spent - fees
        values = self._values(amounts, outputs)
        firsts = np.cumsum(inputs) - inputs
        receivers[last[same]] = [coins[place].owner for place in firsts[same].tolist()]
        turned = last[(outputs == 2) & self._chance(0.5, n)]
        for column in (receivers, values):
            column[turned], column[turned - 1] = column[turned - 1], column[turned]
        places = np.arange(len(paid)) - np.repeat(last - outputs + 1, outputs)
        made = list(map(Coin, receivers.tolist(), values.tolist(), places.tolist()))
        self._pool.add([coin for coin in made if coin.value < _POOL_MAX_SAT])
        return [
            Draft(coins[a:b], _WAYS[way], rbf, made[c:d], size, version)
            for a, b, way, rbf, c, d, size, version in zip(
                firsts.tolist(),
                (firsts + inputs).tolist(),
                ways.tolist(),
                self._chance(_RBF, n).tolist(),
                (last - outputs + 1).tolist(),
                (last + 1).tolist(),
                map(Sizes, base.tolist(), witness.tolist()),
                (1 + self._chance(_VERSION_2, n)).tolist(),
                strict=True,
            )
        ]

    def _coins(
        self, plans: Plans, fees: Numbers, codes: Numbers, owners: Objects, service: Flags
    ) -> tuple[list[Coin], Numbers]:
        """Coins worth about the planned totals and the fees, earlier outputs where possible, and their sums."""
        n, inputs = len(plans.inputs), plans.inputs
        firsts = np.cumsum(inputs) - inputs
        rows = np.repeat(np.arange(n), inputs)
        least = 2 * _LEAST_PAYMENT_SAT * plans.outputs + fees
        wanted = np.maximum.reduce([plans.total_sat + fees, least, 2 * DUST_SAT * inputs])
        parts = self._split(wanted, inputs)
        one_owner = service | ((inputs > 1) & self._chance(_ONE_ADDRESS, n))
        owners[one_owner & ~service] = self.book.new(codes[one_owner & ~service])

        chained = (~one_owner & (wanted < _CHAIN_MAX_SAT))[rows] & self._chance(_CHAINED, len(rows))
        chained[firsts[inputs > 1]] = False
        places = np.flatnonzero(chained)
        enough = np.where(inputs == 1, least, 0)[rows[places]]
        tried = zip(places.tolist(), codes[rows[places]].tolist(), parts[places].tolist(), enough.tolist(), strict=True)
        taken = {}
        for place, code, value, at_least in tried:
            coin = self._pool.take(ADDRESS_TYPES[code], value)
            if coin is not None and coin.value >= at_least:
                taken[place] = coin
        coins = np.empty(len(rows), dtype=object)
        coins[list(taken)] = list(taken.values())
        parts[list(taken)] = [coin.value for coin in taken.values()]
        # The first coin makes up for earlier outputs that are smaller than wanted.
        sums = np.add.reduceat(parts, firsts)
        more = np.maximum(0, least - sums)
        parts[firsts] += more
        older = np.ones(len(rows), dtype=bool)
        older[list(taken)] = False
        fresh = older & ~one_owner[rows]
        held = owners[rows]
        held[fresh] = self.book.new(codes[rows[fresh]])
        coins[older] = self._older(held[older], parts[older])
        return coins.tolist(), sums + more

    def _values(self, amounts: Numbers, outputs: Numbers) -> Numbers:
        """Split the amounts into output values; the last of several is the change."""
        n, several = len(amounts), outputs > 1
        change = ((amounts - outputs * _LEAST_PAYMENT_SAT) * self._random.random(n)).astype(int)
        paid = np.where(several, amounts - change - DUST_SAT, amounts)
        rounded = (outputs == 2) & (paid > _ROUND_FROM_SAT) & self._chance(_ROUND_PAYMENT, n)
        paid[rounded] -= paid[rounded] % _ROUND_SAT
        values = np.empty(outputs.sum(), dtype=int)
        last = (np.cumsum(outputs) - 1)[several]
        values[last] = (amounts - paid)[several]
        values[np.delete(np.arange(len(values)), last)] = self._split(paid, outputs - several)
        return values

    def _split(self, amounts: Numbers, counts: Numbers) -> Numbers:
        """Split each amount into its count of unequal parts, of at least DUST_SAT where the amount allows it."""
        firsts = np.cumsum(counts) - counts
        weights = self._random.standard_exponential(counts.sum())
        scale = np.maximum(0, amounts - counts * DUST_SAT) / np.add.reduceat(weights, firsts)
        parts: Numbers = DUST_SAT + (weights * np.repeat(scale, counts)).astype(int)
        parts[firsts] += amounts - np.add.reduceat(parts, firsts)
        return parts

    def _older(self, owners: Objects, values: Numbers) -> list[Coin]:
        """Coins from before the simulation began."""
        return list(map(Coin, owners.tolist(), values.tolist(), self._random.integers(0, 3, len(values)).tolist()))

    def _ways(self, codes: Numbers) -> Numbers:
        """How coins of these script types are unlocked, as indices of _WAYS."""
        return np.where((codes == _P2SH) & self._chance(_MULTISIG, len(codes)), len(_WAYS) - 1, codes)

    def _carrier_sat(self, n: int) -> Numbers:
        values: Numbers = np.array(list(_CARRIER_SAT))[self._draws.places(list(_CARRIER_SAT.values()), n)]
        return values

    def _log_between(self, low: float, high: float, n: int) -> Numbers:
        values: Numbers = (low * (high / low) ** self._random.random(n)).astype(int)
        return values

    def _chance(self, share: float, n: int) -> Flags:
        """n times True in this share of cases."""
        return self._random.random(n) < share


def op_return(data_hex: str) -> Address:
    """The locking script that carries up to 75 bytes and pays nobody."""
    return Address(None, f"6a{len(data_hex) // 2:02x}{data_hex}", "op_return")


def _fees(rates: npt.NDArray[np.float64], base: Numbers, witness: Numbers) -> Numbers:
    """Fees in satoshi at these rates: from 1 sat/vB to MAX_FEE_SAT, above which a fee is an accident."""
    vsize = base - -witness // 4
    fees: Numbers = np.minimum(MAX_FEE_SAT, np.maximum(vsize, np.rint(rates * vsize).astype(int)))
    return fees
