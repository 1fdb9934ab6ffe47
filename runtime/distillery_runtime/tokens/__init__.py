"""Texts as token ids, within a window, from a tokenizer that was checked."""
