"""The JSON forms of the gateway's methods that a buyer's page calls."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Path:
    """One method as JSON over HTTP: the google.api.http annotation of protos/.../gateway.proto.

    Attributes:
        rpc: name in GatewayService.
        verb: HTTP method.
        template: path with its variables in braces; also the name in locust's tables.
    """

    rpc: str
    verb: str
    template: str

    def of(self, name: str) -> str:
        """The path to one sale or order."""
        head, _, rest = self.template.partition("{")
        return f"{head}{name}{rest.partition('}')[2]}"


PAGE = Path("GetSale", "GET", "/v1/sales/{sku}")
TOKEN = Path("IssuePurchaseToken", "POST", "/v1/sales/{sku}:issuePurchaseToken")
PRESS = Path("Purchase", "POST", "/v1/sales/{sku}:purchase")
POLL = Path("GetOrder", "GET", "/v1/orders/{order_no}")
PAY = Path("PayOrder", "POST", "/v1/orders/{order_no}:pay")
PATHS = (PAGE, TOKEN, PRESS, POLL, PAY)
