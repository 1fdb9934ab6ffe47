"""Files of a run: JSON, caches, locks, progress, and processes that share them."""
