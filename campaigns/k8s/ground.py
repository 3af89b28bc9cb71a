"""What a release needs beforehand, and what must be left after it."""

import tempfile
from pathlib import Path

from campaigns.commands import CommandFailed, wait_for
from campaigns.images import Images
from campaigns.k8s.cluster import CHART, RELEASE, Cluster
from seckill.runtime.dev_issuer import load_or_create

DSN = "postgresql://seckill:seckill@postgres:5432/seckill"
STORES_TIMEOUT = "--timeout=300s"
# The Secret with the keys of the issuer of identities.
KEYS = "campaign-keys"
TOKEN_TTL_S = 24 * 3600
# Longer than a pod's grace period.
PODS_END_TIMEOUT_S = 60.0
# Everything that the chart makes, and what hooks may leave.
KINDS = (
    "deployments,replicasets,pods,jobs,services,configmaps,secrets,serviceaccounts,"
    "poddisruptionbudgets,networkpolicies,horizontalpodautoscalers,ingresses"
)


def prepare(cluster: Cluster, images: Images) -> None:
    """Create the namespace again, with the stores of a trial and their Secrets."""
    remove(cluster)
    cluster.kubectl("create", "namespace", cluster.namespace)
    label = "pod-security.kubernetes.io/warn=restricted"
    cluster.kubectl("label", "namespace", cluster.namespace, label)
    manifest = (CHART / "trial" / "stores.yaml").read_text(encoding="utf-8")
    cluster.apply(images.replace_official(manifest))
    stores = ("deployment/postgres", "deployment/redis", "deployment/kafka")
    cluster.kubectl("wait", "--for=condition=Available", *stores, STORES_TIMEOUT, timeout_s=330)
    cluster.kubectl("wait", "--for=condition=Complete", "job/topics", STORES_TIMEOUT, timeout_s=330)
    cluster.secret("seckill-redis", {"url": "redis://redis:6379/0"})
    cluster.secret("seckill-postgres", {"dsn": DSN})


def identities(cluster: Cluster) -> None:
    """Create the Secrets of a production release: keys of an issuer, a buyer for `helm test`."""
    with tempfile.TemporaryDirectory() as folder:
        issuer = load_or_create(Path(folder), asymmetric=True)
        files = {path.name: path.read_text() for path in Path(folder).iterdir()}
    cluster.secret(KEYS, files)
    cluster.secret("seckill-jwks", {"jwks.json": files["jwks.json"]})
    cluster.secret("seckill-gateway", {"token-keys": issuer.purchase_token_keys})
    cluster.secret("test-buyer", {"token": issuer.token("helm-test", ttl_s=TOKEN_TTL_S)})


def remove(cluster: Cluster) -> None:
    """Remove the namespace with all that is in it."""
    cluster.kubectl(
        *("delete", "namespace", cluster.namespace, "--ignore-not-found", "--wait=true"),
        timeout_s=180,
    )


def image_values(images: Images) -> tuple[str, ...]:
    """Return arguments of helm that name the campaign's images."""
    repository, _, tag = images.product.rpartition(":")
    envoy, _, envoy_tag = images.name("envoy").rpartition(":")
    values = {
        "image.repository": repository,
        "image.tag": tag,
        "edge.image.repository": envoy,
        "edge.image.tag": envoy_tag,
    }
    return tuple(word for name, value in values.items() for word in ("--set", f"{name}={value}"))


def uninstall(cluster: Cluster) -> None:
    """Uninstall the release; raise CommandFailed if something of it stays after its pods' ends."""
    cluster.helm("uninstall", RELEASE, "--wait")
    # Helm waits for the Deployments: their pods may still end calls.
    try:
        wait_for("nothing left", lambda: not leftovers(cluster), PODS_END_TIMEOUT_S)
    except CommandFailed as error:
        raise CommandFailed(f"{error}; left: {', '.join(leftovers(cluster))}") from error


def leftovers(cluster: Cluster) -> list[str]:
    """Return kind and name of each object of the release that is still there."""
    found = cluster.read(KINDS, "-l", f"app.kubernetes.io/instance={RELEASE}")
    return [f"{item['kind']} {item['metadata']['name']}" for item in found]
