"""Models without torch, and what all models have in common."""
