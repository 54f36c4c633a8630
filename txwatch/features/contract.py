"""The feature contract: which numbers describe a transaction, in which order, and why each is there.

The store's columns, the Feast feature view, the models and `docs/features.md` all follow from this list.
NaN means unknown (an unresolved prevout, or no context yet), never zero.

Amounts in satoshi are float64: each is exact up to 2^53, four times all that there can ever be, and a limit holds to
the satoshi. Whatever else is counted or measured is float32: exact up to 2^24, four times the bytes of a block, in half
the space. `transaction_features` rounds, once; rules, models and the store see the same values ever after.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Literal

CONTRACT_VERSION = 4


@dataclass(frozen=True)
class Feature:
    """One number. `log` marks those that span decades: models see log(1 + x).

    `forest` marks those that the Isolation Forest sees. It cuts at random: a number that repeats another, or is for
    rules and people, would blunt it.
    """

    group: str
    name: str
    unit: str
    reason: str
    log: bool = False
    forest: bool = False

    @property
    def type(self) -> Literal["float32", "float64"]:
        """In which its values are kept."""
        return "float64" if self.unit == "sat" else "float32"


_amounts = partial(Feature, "Amounts and space")
_shape = partial(Feature, "Inputs and outputs")
_scripts = partial(Feature, "Scripts and addresses")
_moved = partial(Feature, "Value moved")
_age = partial(Feature, "Age of the coins spent")
_flags = partial(Feature, "Header")
_network = partial(Feature, "Against the network")
_addresses = partial(Feature, "What the input addresses did in the trailing day")

FEATURES: tuple[Feature, ...] = (
    _amounts("value_sat", "sat", "Total output: the scale of the transaction.", log=True),
    _amounts("fee_sat", "sat", "What the sender paid; a fee accident is large in itself.", log=True, forest=True),
    _amounts("fee_rate", "sat/vB", "What the sender paid for space.", log=True),
    _amounts("fee_share", "share", "Fee over all that was spent: ordinary in inscriptions, absurd for large amounts."),
    _amounts("vsize", "vB", "Space taken in a block.", log=True),
    _amounts("witness_share", "share", "Witness bytes over all bytes: data hides there."),
    _shape("input_count", "inputs", "Many inputs: a consolidation, or a coinjoin.", log=True, forest=True),
    _shape("output_count", "outputs", "Many outputs: a batch payout, or a coinjoin.", log=True, forest=True),
    _shape("outputs_per_input", "ratio", "Far below 1 gathers coins, far above 1 spreads them.", log=True),
    _shape("equal_input_share", "share", "Share of the inputs that have the most common input value."),
    _shape("input_value_spread", "share", "1 - smallest / largest input; near 0 when many spend nearly the same."),
    _shape("largest_output_share", "share", "Near 1 for a sweep or a small payment with large change."),
    _shape(
        "equal_output_count", "outputs", "Most outputs of one same value: coinjoins make many.", log=True, forest=True
    ),
    _shape("equal_output_share", "share", "Share of the outputs that have that same value."),
    _shape(
        "equal_output_value_share",
        "share",
        "Share of the total in outputs whose value occurs more than once: who hides among equals hides most of it.",
        forest=True,
    ),
    _shape("output_entropy", "bits", "How evenly the value is spread over the outputs.", forest=True),
    _shape("distinct_output_values", "values", "Different amounts paid: few for many outputs is a pattern.", log=True),
    _shape("distinct_output_addresses", "addresses", "Different receivers.", log=True),
    _shape(
        "dust_outputs", "outputs", "Outputs no larger than the dust limit: marking and spam.", log=True, forest=True
    ),
    _shape(
        "round_outputs", "outputs", "Outputs of a round amount of bitcoin: typed by a person.", log=True, forest=True
    ),
    _shape("op_return_outputs", "outputs", "Data carried in outputs that cannot be spent.", forest=True),
    _scripts("input_script_types", "types", "Distinct script types spent: mixed wallets, or several owners."),
    _scripts("output_script_types", "types", "Distinct script types paid to.", forest=True),
    _scripts("same_script_type", "flag", "One script type throughout: payments to others usually mix.", forest=True),
    _scripts("input_legacy_share", "share", "Share of P2PK, P2PKH and bare multisig inputs: old coins, old wallets."),
    _scripts("input_taproot_share", "share", "Share of taproot inputs."),
    _scripts("output_legacy_share", "share", "Share of P2PK, P2PKH and bare multisig among the spendable outputs."),
    _scripts("output_taproot_share", "share", "Share of taproot among the spendable outputs."),
    _scripts("reused_addresses", "addresses", "Addresses that are both spent from and paid to.", log=True, forest=True),
    _moved("moved_low_sat", "sat", "Least that can have changed hands: the largest output may be change.", log=True),
    _moved("moved_sat", "sat", "Value that likely changed hands, without change.", log=True, forest=True),
    _moved("moved_high_sat", "sat", "Most that can have changed hands: all that no input address got back.", log=True),
    _moved("change_share", "share", "Share of the total that likely returned to the sender."),
    _age("input_age_max_blocks", "blocks", "Age of the oldest coin; unknown where no source tells it.", log=True),
    _age(
        "coin_days_destroyed", "BTC days", "Value by age of the coins spent: old wealth moves.", log=True, forest=True
    ),
    _flags("rbf", "flag", "Signals replaceability by BIP 125."),
    _flags("version", "number", "Transaction version; 1 and 2 are standard."),
    _flags("lock_time_kind", "code", "0 no lock time, 1 a block height, 2 a moment: wallets differ."),
    _network("fee_rate_over_median_1h", "ratio", "Fee rate against the network's last hour.", log=True, forest=True),
    _network("fee_rate_over_median_24h", "ratio", "Fee rate against the network's last day.", log=True),
    _network("value_over_median_24h", "ratio", "Value against the network's last day.", log=True),
    _network("value_over_p99_24h", "ratio", "Value against the largest hundredth of the last day.", log=True),
    _network("kind_share_24h", "share", "Share of the last day's transactions that are of the same kind."),
    _network("arrivals_1h_over_24h", "ratio", "Arrivals of the last hour against the last day's: a burst.", log=True),
    _addresses("input_address_tx_24h", "transactions", "Transactions of the busiest one.", log=True, forest=True),
    _addresses("input_address_tx_sum_24h", "transactions", "Transactions of all of them.", log=True),
    _addresses("input_address_received_sat_max_24h", "sat", "Received by the one that received most.", log=True),
    _addresses("input_address_received_sat_24h", "sat", "Received by all of them.", log=True),
    _addresses("input_address_spent_sat_max_24h", "sat", "Spent by the one that spent most.", log=True),
    _addresses("input_address_spent_sat_24h", "sat", "Spent by all of them.", log=True, forest=True),
    _addresses("input_address_known_h_24h", "h", "Since the first of them was first seen; 0 if none was seen."),
    _addresses("input_address_idle_h_24h", "h", "Since the last of them was last seen; 24 if none was seen."),
    _addresses("input_address_velocity_24h", "transactions/h", "Rate of the fastest since first seen.", log=True),
    _addresses("input_address_velocity_sum_24h", "transactions/h", "Sum of those rates.", log=True),
)

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)


def contract_fingerprint() -> str:
    """Twelve hex digits over names, order, type and version: a model fits only the contract that it was trained on."""
    text = "\n".join([f"v{CONTRACT_VERSION}", *(f"{f.name}:{f.type}:{f.log}:{f.forest}" for f in FEATURES)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
