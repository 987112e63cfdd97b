"""The searcher behind HTTP, for applications that are not written in Python."""
