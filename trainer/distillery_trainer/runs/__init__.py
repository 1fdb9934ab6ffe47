"""Runs: fitted task by task, opened, compared, assessed."""
