"""The ground: contracts, client, errors, and the runtime that the services share."""
