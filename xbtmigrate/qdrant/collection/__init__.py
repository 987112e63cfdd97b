"""Facts and health of a collection: aliases, snapshots, probes, index recall."""
