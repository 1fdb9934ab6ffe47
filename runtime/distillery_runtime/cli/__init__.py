"""The command `distillery`."""
