"""The paper rerun: the grid of runs, the figures, the claims."""
