"""What a rendered chart must fit: Kubernetes' schemas, and the settings that the services read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import kubernetes_validate
from pydantic_settings import BaseSettings

from edge.settings import EdgeSettings
from gateway.settings import GatewaySettings
from inventory_svc.settings import InventorySettings
from order_svc.settings import OrderSettings
from rollback_svc.settings import RollbackSettings
from seckill.runtime.settings import PREFIX

Document = Mapping[str, Any]

SETTINGS: Mapping[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "inventory": InventorySettings,
    "order": OrderSettings,
    "rollback": RollbackSettings,
    "edge": EdgeSettings,
}
# Of the Prometheus operator, cert-manager and Gateway API: their schemas are not Kubernetes' own.
FOREIGN_KINDS = (
    "PodMonitor",
    "ServiceMonitor",
    "PrometheusRule",
    "Certificate",
    "HTTPRoute",
    "GRPCRoute",
)
COMPONENT = "app.kubernetes.io/component"


def known_versions() -> Sequence[str]:
    """Kubernetes versions whose schemas are at hand, oldest first, e.g. "1.30.0"."""
    versions: Sequence[str] = kubernetes_validate.utils.all_versions()
    return versions


def schema_faults(documents: Sequence[Document], versions: Sequence[str]) -> Iterator[str]:
    """Where `documents` break the strict schemas of these Kubernetes versions."""
    for document in documents:
        if document["kind"] in FOREIGN_KINDS:
            continue
        for version in versions:
            place = f"{document['kind']} {document['metadata']['name']}, Kubernetes {version}"
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                field = ".".join(str(part) for part in error.absolute_path)
                yield f"{place}: {field}: {error.message}"
            except kubernetes_validate.SchemaNotFoundError as error:
                yield f"{place}: {error.message}"


def settings_faults(documents: Sequence[Document]) -> Iterator[str]:
    """Variables that a service does not read, or needs and is not given."""
    for service, settings in SETTINGS.items():
        known = {PREFIX + name.upper(): field for name, field in settings.model_fields.items()}
        given = {name for name in _variables(documents, service) if name.startswith(PREFIX)}
        for variable in sorted(given - known.keys()):
            yield f"{service}: {variable} is set, but {settings.__name__} has no such field"
        for variable, field in known.items():
            if field.is_required() and variable not in given:
                yield f"{service}: {variable} is not set, but {settings.__name__} requires it"


def _variables(documents: Sequence[Document], service: str) -> Iterator[str]:
    for document in documents:
        if document["metadata"].get("labels", {}).get(COMPONENT) != service:
            continue
        if document["kind"] == "ConfigMap":
            yield from document["data"]
        elif document["kind"] == "Deployment":
            container = document["spec"]["template"]["spec"]["containers"][0]
            yield from (entry["name"] for entry in container.get("env", ()))
