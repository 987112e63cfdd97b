"""The two layouts of a migrating collection: create, read, write, compare and remove them."""
