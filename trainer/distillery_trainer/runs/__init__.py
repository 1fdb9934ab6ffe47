"""Runs: fitted task by task, opened, compared, evaluated again."""
