"""What features are about."""

from feast import Entity, ValueType

transaction = Entity(
    name="transaction",
    join_keys=["txid"],
    value_type=ValueType.STRING,
    description="An unconfirmed transaction, by its txid.",
)
address = Entity(
    name="address", join_keys=["address"], value_type=ValueType.STRING, description="A Bitcoin address, as text."
)
network = Entity(
    name="network",
    join_keys=["as_of"],
    value_type=ValueType.STRING,
    description="The network as of a window, by the window's key: immutable once it is published.",
)
