"""Orders: their rows, their states, and the projection that polling reads."""
