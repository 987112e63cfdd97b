"""The JSON documents that commands print with `--json`, as types with a description of each key."""
