"""Go or no-go before a sale: checks of all services, a rehearsal, and what follows from it."""
