"""Stock: who holds how many units. The scripts of `lua/` decide, these modules run them."""
