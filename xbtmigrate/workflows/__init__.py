"""The procedure of each command: one folder per step, and the modules that several steps share."""
