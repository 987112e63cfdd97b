"""Servings of mixed galleries that are measured for comparison, one file each."""
