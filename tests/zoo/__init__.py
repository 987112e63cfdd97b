"""Small collections as people have them, each led through a whole migration.

`specimen` draws a collection, `building` makes it, `driver` leads it as a user would, and `oracle`
judges the end with plain qdrant-client. `python -m tests.zoo --seeds 0-999` leads many of them.
"""
