"""The pages by the path of their address, each with its title, and the modules that show them."""

PAGES = {
    "": "Now",
    "unusual": "Unusual transactions",
    "whales": "Whales",
    "cases": "Cases",
    "rules": "Rules",
    "channels": "Channels",
    "search": "Search",
    "transaction": "One transaction",
    "models": "Models",
    "drift": "Drift",
    "feed": "Feed quality",
}
VIEWS = (
    "now",
    "anomalies",
    "whales",
    "cases",
    "rules",
    "channels",
    "search",
    "transaction",
    "models",
    "drift",
    "feed",
)
