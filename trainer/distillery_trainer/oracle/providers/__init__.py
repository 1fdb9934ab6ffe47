"""Adapters: one file for each provider's API, the place for a new one."""
