"""Room `serving`: one query answered over a mixed gallery."""
