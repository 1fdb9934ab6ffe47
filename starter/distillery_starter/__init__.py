"""A bundle as data; `distillery score` uses it when no other is named."""
