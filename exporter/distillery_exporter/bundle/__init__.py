"""A bundle as it is written: files, card, goldens, quality."""
