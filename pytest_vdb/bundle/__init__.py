"""Reproducibility archives: what ``vdb bundle`` writes and ``vdb verify`` checks."""
