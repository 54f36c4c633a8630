"""The feature contract: which numbers describe a transaction, in which order, and why each is there.

The store's columns, the Feast feature view, the models and `docs/features.md` all follow from this list.
All features are float64; NaN means unknown (an unresolved prevout, or no context yet), never zero.
"""

import hashlib
from dataclasses import dataclass

CONTRACT_VERSION = 1


@dataclass(frozen=True)
class Feature:
    """One number. `log` marks those that span decades: models see log(1 + x)."""

    name: str
    unit: str
    reason: str
    log: bool = False


FEATURES: tuple[Feature, ...] = (
    Feature("value_sat", "sat", "Total output: the scale of the transaction.", log=True),
    Feature("fee_sat", "sat", "What the sender paid; a fee accident is large in itself.", log=True),
    Feature("fee_rate", "sat/vB", "What the sender paid for space.", log=True),
    Feature("vsize", "vB", "Space taken in a block.", log=True),
    Feature("input_count", "inputs", "Many inputs: a consolidation, or a coinjoin.", log=True),
    Feature("output_count", "outputs", "Many outputs: a batch payout, or a coinjoin.", log=True),
    Feature("largest_output_share", "share", "Near 1 for a sweep or a small payment with large change."),
    Feature("equal_output_count", "outputs", "Most outputs of one same value: coinjoins make many.", log=True),
    Feature("equal_output_share", "share", "Share of the outputs that have that same value."),
    Feature("output_entropy", "bits", "How evenly the value is spread over the outputs."),
    Feature("dust_outputs", "outputs", "Outputs no larger than the dust limit: marking and spam.", log=True),
    Feature("round_outputs", "outputs", "Outputs of a round amount of bitcoin: typed by a person.", log=True),
    Feature("op_return_outputs", "outputs", "Data carried in outputs that cannot be spent."),
    Feature("input_script_types", "types", "Distinct script types spent: mixed wallets, or several owners."),
    Feature("output_script_types", "types", "Distinct script types paid to."),
    Feature("reused_addresses", "addresses", "Addresses that are both spent from and paid to.", log=True),
    Feature("moved_sat", "sat", "Value that likely changed hands, without change.", log=True),
    Feature("rbf", "flag", "Signals replaceability by BIP 125."),
    Feature("fee_rate_over_median_1h", "ratio", "Fee rate against the network's last hour.", log=True),
    Feature("value_over_median_24h", "ratio", "Value against the network's last day.", log=True),
    Feature("input_address_tx_24h", "transactions", "The busiest input address over the last day.", log=True),
    Feature("input_address_spent_sat_24h", "sat", "What the input addresses spent over the last day.", log=True),
)

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)


def contract_fingerprint() -> str:
    """Twelve hex digits over names, order, type and version: a model fits only the contract that it was trained on."""
    text = "\n".join([f"v{CONTRACT_VERSION}", *(f"{f.name}:float64:{f.log}" for f in FEATURES)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
