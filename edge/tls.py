"""TLS towards the public, and towards the services of the mesh.

Certificates are read again when their folder changes.
"""

from pathlib import Path

from edge.settings import EdgeSettings
from edge.typed import Json, typed

CERTIFICATE = "server"
CLIENT_AUTHORITY = "clients"
MESH_CERTIFICATE, MESH_AUTHORITY = "mesh", "mesh-authority"


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


def to_stage(settings: EdgeSettings, stage: str) -> Json:
    """Return the part of a cluster that says how a stage is spoken to: with our certificate, and
    only if its own names that stage. Empty while the mesh has no TLS.
    """
    if not settings.mesh_tls_certificate:
        return {}
    name = f"{stage}.{settings.mesh_tls_domain}"
    matcher = {"san_type": "DNS", "matcher": {"exact": name}}
    common: Json = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["h2"],
        "tls_certificate_sds_secret_configs": [_from_file(settings, MESH_CERTIFICATE)],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [matcher]},
            "validation_context_sds_secret_config": _from_file(settings, MESH_AUTHORITY),
        },
    }
    return {
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": typed(
                "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                common_tls_context=common,
                sni=name,
            ),
        }
    }


def secrets(settings: EdgeSettings) -> dict[str, Json]:
    """Return the files that name the certificates, one each as Envoy demands, by file name.

    They contain no certificate and no key.
    """
    certificates, authorities = {}, {}
    if settings.edge_tls != "off":
        certificates[CERTIFICATE] = (settings.edge_tls_certificate, settings.edge_tls_key)
        if settings.edge_client_certificates != "off":
            authorities[CLIENT_AUTHORITY] = settings.edge_client_ca
    if settings.mesh_tls_certificate:
        certificates[MESH_CERTIFICATE] = (settings.mesh_tls_certificate, settings.mesh_tls_key)
        authorities[MESH_AUTHORITY] = settings.mesh_tls_ca
    found = [_pair(name, *files) for name, files in certificates.items()]
    found += [_authority(name, path) for name, path in authorities.items()]
    return {_file(str(secret["name"])): {"resources": [secret]} for secret in found}


def _pair(name: str, certificate: str, key: str) -> Json:
    files = {
        "certificate_chain": {"filename": certificate},
        "private_key": {"filename": key},
        "watched_directory": _folder(certificate),
    }
    return _secret(name, tls_certificate=files)


def _authority(name: str, path: str) -> Json:
    files = {"trusted_ca": {"filename": path}, "watched_directory": _folder(path)}
    return _secret(name, validation_context=files)


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
