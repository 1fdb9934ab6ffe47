"""Distillery's exporter: from a finished run to a bundle, data only, that the runtime loads."""
