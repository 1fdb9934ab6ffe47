"""Calibration maps, routing, and the certificate of the threshold."""
