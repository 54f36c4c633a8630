"""The feature catalogue in Feast's terms: entities, views over the product's own tables, and a service a contract."""
