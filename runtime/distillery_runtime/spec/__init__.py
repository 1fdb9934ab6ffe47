"""A filter: its spec, its rules as patterns, calibration, verdict and routing."""
