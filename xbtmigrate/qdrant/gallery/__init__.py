"""The two layouts of a migrating collection, and what prepares, compares and removes them."""
