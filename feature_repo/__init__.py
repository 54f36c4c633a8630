"""The feature catalogue for Feast: entities, views over the product's tables, and one service for each contract."""
