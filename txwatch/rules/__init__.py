"""Rules of one's own: what a user wants to hear of, written as a tree of comparisons."""
