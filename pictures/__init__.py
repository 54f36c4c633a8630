"""The pictures of the documentation, all taken of one demo that runs: `make pictures`."""
