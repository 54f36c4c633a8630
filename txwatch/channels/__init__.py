"""Where alerts go besides Telegram: what a channel is, and how a request reaches it. It knows nothing of alerts."""
