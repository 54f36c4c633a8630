"""What is known of addresses: who they belong to, by whom that was said, and which of them are watched."""
