"""Labelled and unlabelled articles: read, grouped, split, and their predictions."""
