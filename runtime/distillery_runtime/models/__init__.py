"""Models at work: sessions, devices, and one stage of a cascade."""
