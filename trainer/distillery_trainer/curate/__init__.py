"""Choosing and checking articles before and after they are labelled."""
