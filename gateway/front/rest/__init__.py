"""GatewayService as JSON over HTTP, for callers whose load balancer ends TLS before the gateway."""
