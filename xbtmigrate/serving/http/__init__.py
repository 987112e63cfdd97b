"""The searcher as an HTTP service, for applications that are not written in Python."""
