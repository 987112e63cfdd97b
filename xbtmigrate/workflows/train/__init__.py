"""The procedure of `train-projector`."""
