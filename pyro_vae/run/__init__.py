"""From settings to a trained pair in a run folder, and from the folder back to its scores."""
