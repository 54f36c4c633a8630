"""`python -m txwatch` is the `txwatch` command."""

from txwatch.cli import main

main()
