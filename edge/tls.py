"""TLS towards the public. Certificates are read again when their folder changes."""

from pathlib import Path

from edge.settings import EdgeSettings
from edge.typed import Json, typed

CERTIFICATE = "server"
CLIENT_AUTHORITY = "clients"


def transport_socket(settings: EdgeSettings) -> Json:
    """Return the TLS configuration of the listener."""
    common: Json = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificate_sds_secret_configs": [_from_file(settings, CERTIFICATE)],
    }
    if settings.edge_client_certificates != "off":
        common["validation_context_sds_secret_config"] = _from_file(settings, CLIENT_AUTHORITY)
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": typed(
            "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            common_tls_context=common,
            require_client_certificate=settings.edge_client_certificates == "required",
        ),
    }


def secrets(settings: EdgeSettings) -> dict[str, Json]:
    """Return the files that name the certificates, one each as Envoy demands, by file name.

    They contain no certificate and no key.
    """
    if settings.edge_tls == "off":
        return {}
    certificate = {
        "certificate_chain": {"filename": settings.edge_tls_certificate},
        "private_key": {"filename": settings.edge_tls_key},
        "watched_directory": _folder(settings.edge_tls_certificate),
    }
    files = {_file(CERTIFICATE): _secret(CERTIFICATE, tls_certificate=certificate)}
    if settings.edge_client_certificates != "off":
        authority = {
            "trusted_ca": {"filename": settings.edge_client_ca},
            "watched_directory": _folder(settings.edge_client_ca),
        }
        files[_file(CLIENT_AUTHORITY)] = _secret(CLIENT_AUTHORITY, validation_context=authority)
    return {name: {"resources": [secret]} for name, secret in files.items()}


def _file(name: str) -> str:
    return f"tls-{name}.json"


def _secret(name: str, **kind: Json) -> Json:
    return typed("envoy.extensions.transport_sockets.tls.v3.Secret", name=name, **kind)


def _folder(path: str) -> Json:
    return {"path": str(Path(path).parent)}


def _from_file(settings: EdgeSettings, name: str) -> Json:
    return {
        "name": name,
        "sds_config": {
            "resource_api_version": "V3",
            "path_config_source": {"path": str(settings.edge_directory / _file(name))},
        },
    }
