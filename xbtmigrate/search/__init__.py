"""Room `search`: what an application runs, queries answered over a mixed gallery in Qdrant."""
