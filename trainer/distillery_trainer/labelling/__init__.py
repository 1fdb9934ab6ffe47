"""Labelling articles by an oracle: planned, within a budget, nothing paid twice."""
