"""What bends Dagster to this product: where runs are made, how its server and storage behave."""
