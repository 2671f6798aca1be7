"""Ready priors p(z), one file each, given to a model as `prior=`. A new file is found by its name."""
