"""Distillery's trainer: from a filter and labelled articles to a run whose models can be exported."""
