"""The service's full name."""

SERVICE = "seckill.v1.GatewayService"
