"""Filters: found, read, overridden, linted, started, and rendered for an oracle."""
