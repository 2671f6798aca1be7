"""Shelf 3: learning algorithms and estimators of the marginal likelihood, one file each."""
