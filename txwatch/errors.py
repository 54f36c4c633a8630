"""Errors whose text is written for the person who must act: what was wrong, with what, and what to do."""


class UserError(Exception):
    """The command line prints its text without a traceback, and ends with status 2."""
