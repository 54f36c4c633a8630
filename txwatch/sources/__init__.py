"""Where unconfirmed transactions come from."""
