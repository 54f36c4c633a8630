"""The history of whales: large values that likely changed hands, and between whom."""
