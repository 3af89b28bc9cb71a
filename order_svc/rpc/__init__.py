"""OrderService and OrderAdminService: requests checked, the rooms called, replies made."""
