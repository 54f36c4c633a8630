"""How this product changes Dagster: where runs are launched, and how its server and storage behave."""
