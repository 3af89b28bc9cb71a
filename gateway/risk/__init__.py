"""How likely a caller for a purchase token is to be no customer: signals, a score, a tier."""
