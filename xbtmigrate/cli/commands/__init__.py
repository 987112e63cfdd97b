"""One module per command: parse its options, call one workflow, print what it returns."""
