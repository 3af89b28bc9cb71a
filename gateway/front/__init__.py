"""How calls come in: in batches, over one of two transports that the handlers do not know."""
