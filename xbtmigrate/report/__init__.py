"""Report: one self-contained HTML page with plots."""
