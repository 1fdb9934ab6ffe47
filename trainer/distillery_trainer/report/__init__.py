"""The report of a run: one page for the reader who decides whether to deploy."""
