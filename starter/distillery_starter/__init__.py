"""Bundles as data; `distillery score` uses the first, as `starter.json` says, where no other is named."""
