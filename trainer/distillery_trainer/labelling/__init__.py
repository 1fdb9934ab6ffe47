"""Labelling articles by an oracle: planned, within a budget, no reply paid twice."""
