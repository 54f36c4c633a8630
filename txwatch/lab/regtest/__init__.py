"""Real nodes on regtest, whose coins cost nothing: how they are asked, what is spent there, and what was told of it."""
