"""The reference pages, written from the code that they are about."""
