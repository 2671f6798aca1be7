"""What ArviZ has to say of a trained pair: draws, diagnostics, criticism, report, pictures."""
