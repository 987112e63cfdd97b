"""What applications get: `serve`, `publish` and `export-onnx`."""
