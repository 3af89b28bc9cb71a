"""A discrete-event simulation of the mesh: what its stages take, and what follows for a crowd."""
