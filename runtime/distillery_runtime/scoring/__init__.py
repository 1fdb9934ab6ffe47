"""Scoring: from articles through the stages of a cascade to results."""
