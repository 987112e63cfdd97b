"""The procedure of each command, a folder for each step; shared modules lie beside the folders."""
