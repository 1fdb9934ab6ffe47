"""Everything that needs torch: training, encoders, decoders, embedders."""
