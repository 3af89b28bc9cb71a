"""InventoryService over gRPC: requests are checked here and passed on."""
