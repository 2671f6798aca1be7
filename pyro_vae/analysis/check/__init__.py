"""`pyro-vae check`: the contracts of the shelves, as functions that tests call, too, on a part of a user's own."""
