"""What is measured: each function takes the world and gives one sample or more."""
