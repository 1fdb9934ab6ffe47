"""How fast others run the same models on the same texts, and how near their answers are."""
