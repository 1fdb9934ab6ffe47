"""Evaluation: metrics, intervals, baselines, noise, and the gate."""
