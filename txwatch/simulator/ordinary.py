"""Ordinary traffic: payments with change, sweeps, consolidations, batch payouts, inscriptions and runes.

Belongs here: how one ordinary transaction is drawn from a regime. Unusual transactions are in `plants.py`, and none may
come from here: no fee reaches MAX_FEE_SAT, and nobody moves BIG_SAT (a wallet that holds more pays out of it and
keeps the change at its own address).
"""

import numpy as np

from txwatch.simulator.addresses import Address
from txwatch.simulator.draws import Draws, Weighted
from txwatch.simulator.forms import FeedOutput, created, op_return
from txwatch.simulator.plans import INSCRIPTION, RUNE, Plan, plans
from txwatch.simulator.regimes import Regime, interpolate
from txwatch.simulator.spending import DUST_SAT, UNLOCKING, Draft, Sizes, Unlocking, sizes, unlock
from txwatch.simulator.wallets import AddressBook, CoinPool, older_coin

MAX_FEE_SAT = 990_000
BIG_SAT = 40_000_000_000

_CARRIER_SAT = {294: 0.12, 330: 0.24, 546: 0.5, 600: 0.06, 1_000: 0.04, 10_000: 0.04}
_RUNE_PAYLOAD_BYTES = (7, 24)
_LEAST_PAYMENT_SAT = 1_000
_CHAINED = 0.6
_ONE_ADDRESS = 0.5
_POOL_MAX_SAT = 10_000_000_000
_CHAIN_MAX_SAT = 20_000_000_000
_CHANGE_TO_SAME_ADDRESS = 0.28
_ROUND_PAYMENT = 0.15
_RBF = 0.51
_VERSION_2 = 0.72
_MANY = 5
"""From this many inputs or outputs on, a service is likely behind it."""
_SERVICE_BATCH, _SERVICE_SWEEP = 0.6, 0.5
_ECDSA_WITNESS = UNLOCKING["p2wpkh"].witness_bytes  # one byte more when the signature's R is high
_SCRIPT_VARIANTS = {"p2sh": ("p2sh_multisig", 0.15)}


class OrdinaryTraffic:
    """An endless supply of ordinary transactions of one regime."""

    def __init__(self, regime: Regime, draws: Draws) -> None:
        self._regime = regime
        self._draws = draws
        self.book = AddressBook(draws, regime.payee_types)
        self._pool = CoinPool(draws)
        self._script_types = Weighted(regime.script_types)
        self._carriers = Weighted(_CARRIER_SAT)
        self._plans = plans(regime, draws.generator)

    def draft(self) -> Draft:
        """The next transaction."""
        plan = next(self._plans)
        if plan.carries == INSCRIPTION:
            return self._inscription(plan)
        if plan.carries == RUNE:
            return self._rune(plan)
        if plan.total_sat >= BIG_SAT:
            return self._big_wallet(plan)
        return self._payment(plan)

    def fee_rate(self) -> float:
        """A fee rate as others pay it now, sat/vB."""
        return float(interpolate(self._regime.fee_rate, np.array([self._draws.share()]))[0])

    def _inscription(self, plan: Plan) -> Draft:
        """A reveal: a taproot coin with data in its witness pays one dust output, and often more than that in fee."""
        draws = self._draws
        kind = "p2tr" if draws.share() < 0.55 else "p2wpkh"
        payee = self.book.payee() if draws.share() < 0.1 else self.book.new(kind)
        output = created(payee.text, payee.script, self._carriers.draw(draws))
        extra = int(plan.inscription_bytes) - UNLOCKING["p2tr"].witness_bytes
        return self._carry(plan, self.book.new("p2tr"), payee, [output], extra)

    def _rune(self, plan: Plan) -> Draft:
        """A mint or a transfer: an OP_RETURN message, and an output for the rune that may hold the change as well."""
        draws = self._draws
        sender = self.book.new("p2tr")
        payee = sender if draws.share() < 0.7 else self.book.new("p2tr")
        change = int(draws.log_between(1_000, 300_000)) if draws.share() < 0.5 else 0
        message = op_return("5d" + draws.hex(draws.between(*_RUNE_PAYLOAD_BYTES)))
        output = created(payee.text, payee.script, self._carriers.draw(draws) + change, 1)
        return self._carry(plan, sender, payee, [message, output], 0)

    def _carry(self, plan: Plan, sender: Address, payee: Address, outputs: list[FeedOutput], extra: int) -> Draft:
        """A transaction of one taproot coin, made for what it carries; its last output can be spent later."""
        size = sizes(UNLOCKING["p2tr"], 1, [o.script for o in outputs], extra)
        value = sum(o.value for o in outputs) + _fee(plan.fee_rate, size)
        coin = older_coin(self._draws, sender, value)
        self._pool.add(payee.kind, outputs[-1])
        return Draft(unlock(self._draws, [coin], UNLOCKING["p2tr"], rbf=True), outputs, size)

    def _big_wallet(self, plan: Plan) -> Draft:
        """A service pays a little out of much, and keeps the rest where it was."""
        draws = self._draws
        wallet = self.book.new(self._script_types.draw(draws))
        payees = [self.book.payee() for _ in range(max(1, plan.outputs - 1))]
        unlocking = self._unlocking(wallet.kind)
        size = sizes(unlocking, plan.inputs, [p.script for p in payees] + [wallet.script])
        fee = _fee(plan.fee_rate, size)
        paid = [int(draws.log_between(100_000, 4_000_000_000 / len(payees))) for _ in payees]
        parts = _split(draws, int(plan.total_sat) + fee, plan.inputs)
        coins = [older_coin(draws, wallet, part) for part in parts]
        outputs = [created(p.text, p.script, value, n) for n, (p, value) in enumerate(zip(payees, paid, strict=True))]
        change = sum(parts) - fee - sum(paid)
        outputs.append(created(wallet.text, wallet.script, change, len(outputs)))
        return Draft(unlock(draws, coins, unlocking, self._rbf()), outputs, size)

    def _payment(self, plan: Plan) -> Draft:
        draws, n = self._draws, plan.outputs
        service = self._service(plan)
        kind = service.kind if service else self._script_types.draw(draws)
        unlocking = self._unlocking(kind)
        if n == 1:
            receivers = [service or self.book.payee()]
        else:
            receivers = [self.book.payee() for _ in range(n - 1)]
            receivers.append(service or self.book.new(kind))  # the change
        grinding = draws.below(plan.inputs + 1) if unlocking.witness_bytes == _ECDSA_WITNESS else 0
        size = sizes(unlocking, plan.inputs, [r.script for r in receivers], grinding)
        fee = _fee(plan.fee_rate, size)
        coins = self._coins(kind, plan, fee, service)
        if service is None and n > 1 and draws.share() < _CHANGE_TO_SAME_ADDRESS:
            receivers[-1] = Address(str(coins[0].addr), coins[0].script, kind)
        values = self._values(sum(c.value for c in coins) - fee, n)
        if n == 2 and draws.share() < 0.5:
            receivers.reverse()
            values.reverse()
        outputs = []
        for i, (receiver, value) in enumerate(zip(receivers, values, strict=True)):
            output = created(receiver.text, receiver.script, value, i)
            outputs.append(output)
            if value < _POOL_MAX_SAT:
                self._pool.add(receiver.kind, output)
        version = 2 if draws.share() < _VERSION_2 else 1
        return Draft(unlock(draws, coins, unlocking, self._rbf()), outputs, size, version)

    def _service(self, plan: Plan) -> Address | None:
        """The service behind a batch payout or a consolidation, if there is one."""
        if plan.outputs >= _MANY and self._draws.share() < _SERVICE_BATCH:
            return self.book.service()
        if plan.inputs >= _MANY and self._draws.share() < _SERVICE_SWEEP:
            return self.book.service()
        return None

    def _coins(self, kind: str, plan: Plan, fee: int, owner: Address | None) -> list[FeedOutput]:
        """Coins of one script type worth about the planned total and the fee: earlier outputs where there are any."""
        draws = self._draws
        least = 2 * _LEAST_PAYMENT_SAT * plan.outputs + fee
        wanted = max(int(plan.total_sat) + fee, least, 2 * DUST_SAT * plan.inputs)
        chained = owner is None and wanted < _CHAIN_MAX_SAT
        if plan.inputs == 1:
            coin = self._pool.take(kind, wanted) if chained and draws.share() < _CHAINED else None
            if coin is not None and coin.value >= least:
                return [coin]
            return [older_coin(draws, owner or self.book.new(kind), wanted)]
        if owner is None and draws.share() < _ONE_ADDRESS:
            owner, chained = self.book.new(kind), False
        parts = _split(draws, wanted, plan.inputs)
        coins = []
        for part in parts[1:]:
            coin = self._pool.take(kind, part) if chained and draws.share() < _CHAINED else None
            coins.append(coin or older_coin(draws, owner or self.book.new(kind), part))
        # The last one makes up for earlier outputs that were smaller than what was wanted.
        first = max(parts[0], least - sum(c.value for c in coins))
        return [*coins, older_coin(draws, owner or self.book.new(kind), first)]

    def _values(self, total: int, n: int) -> list[int]:
        """Split what is paid out; the last value is the change."""
        draws = self._draws
        if n == 1:
            return [total]
        change = int((total - n * _LEAST_PAYMENT_SAT) * draws.share())
        if n == 2:
            payment = total - change - DUST_SAT
            if payment > 1_000_000 and draws.share() < _ROUND_PAYMENT:
                payment -= payment % 100_000
            return [payment, total - payment]
        paid = _split(draws, total - change - DUST_SAT, n - 1)
        return [*paid, total - sum(paid)]

    def _unlocking(self, kind: str) -> Unlocking:
        variant = _SCRIPT_VARIANTS.get(kind)
        if variant is not None and self._draws.share() < variant[1]:
            return UNLOCKING[variant[0]]
        return UNLOCKING[kind]

    def _rbf(self) -> bool:
        return self._draws.share() < _RBF


def _fee(rate: float, size: Sizes) -> int:
    """Fee in satoshi at this rate: at least 1 sat/vB, and never so large that it would be an accident."""
    return min(MAX_FEE_SAT, max(size.vsize, round(rate * size.vsize)))


def _split(draws: Draws, total: int, n: int) -> list[int]:
    """Split an amount into n unequal parts of at least DUST_SAT each, where the amount allows it."""
    if n == 1:
        return [total]
    weights = [draws.exponential() for _ in range(n)]
    scale = max(0, total - n * DUST_SAT) / sum(weights)
    parts = [DUST_SAT + int(weight * scale) for weight in weights]
    parts[0] += total - sum(parts)
    return parts
