"""Against hoarding: histories of buyers, sightings of orders, clusters, voids."""
