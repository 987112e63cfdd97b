"""Encoders: the built-in models behind the `Encoder` protocol."""
