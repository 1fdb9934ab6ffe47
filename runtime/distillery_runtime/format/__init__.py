"""A bundle on disk: manifest, digests, variants, graphs and signatures."""
