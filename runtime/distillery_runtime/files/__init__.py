"""Files written whole or not at all, locks on them, and strict JSON."""
