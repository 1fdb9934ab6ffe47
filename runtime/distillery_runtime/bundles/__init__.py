"""Bundles: loaded, replayed, joined in a panel, and fetched from the Hub."""
