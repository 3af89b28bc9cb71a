"""The order service: keeps orders from the reservation to the payment or the cancellation."""
