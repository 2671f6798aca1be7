"""The latent space of a run in the browser; needs Bokeh, the extra `explore`."""
