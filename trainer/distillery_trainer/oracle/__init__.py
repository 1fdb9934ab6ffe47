"""Oracles: the LLMs that label articles, behind one protocol."""
