"""The edge: admits or refuses, cheapest check first, and reserves in batches."""
