"""A sale while something else happens: buyers in a pod, started before and stopped after it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from campaigns.commands import CommandFailed, wait_for
from campaigns.images import Images
from campaigns.k8s.cluster import RELEASE, Cluster

SCRIPT = Path(__file__).with_name("crowd.py")
START_TIMEOUT_S = 120.0
END_TIMEOUT_S = 240.0
PER_SECOND = 12
UNITS = {"deep": 5000, "scarce": 100}
BROKEN = ("oversold", "lost", "unaccounted")


class Sale:
    """A sale of the campaign.

    Attributes:
        result: what the crowd and the stores say, once it is over.
    """

    def __init__(self) -> None:
        self.result: dict[str, Any] = {}

    @property
    def clean(self) -> bool:
        """Whether nothing was sold twice or lost, and no buyer saw a failure."""
        return not any(self.result[name] for name in BROKEN) and not self.result["failed"]

    def line(self) -> str:
        """Return the result in a line."""
        result = self.result
        hidden = sum(result["hidden_by_retries"].values())
        return (
            f"{result['buyers']:,} buyers in {result['seconds']:.0f} s, "
            f"{result['orders']:,} orders, {result['oversold']} oversold, {result['lost']} lost, "
            f"{result['unaccounted']} unaccounted, "
            f"{sum(result['failed'].values())} failed, {hidden} calls retried, "
            f"slowest {result['slowest_s']:.1f} s"
        )


@contextmanager
def sale(
    cluster: Cluster, images: Images, *, target: str, keys: str, name: str, mesh: str = ""
) -> Iterator[Sale]:
    """Let buyers come for the time of the block.

    Args:
        cluster: where.
        images: whose product runs the crowd.
        target: what the buyers call.
        keys: Secret with the keys of the issuer of identities.
        name: of the pod.
        mesh: Secret with an operator's certificate, who creates the sales; empty: in clear.
    """
    played = Sale()
    pod = f"crowd-{name}"
    script = {"crowd.py": SCRIPT.read_text(encoding="utf-8")}
    metadata = {"name": pod, "labels": {"app": "crowd"}}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": script}
    cluster.apply(json.dumps(config))
    secrets = {"keys": keys, **({"mesh": mesh} if mesh else {})}
    described = _pod(metadata, images, cluster.namespace, target=target, secrets=secrets)
    cluster.apply(json.dumps(described))
    try:
        wait_for(f"{pod} starts", lambda: _started(cluster, pod), START_TIMEOUT_S)
        yield played
        cluster.kubectl("exec", pod, "--", "touch", "/tmp/stop")  # noqa: S108 - the pod's own
        wait_for(
            f"{pod} ends",
            lambda: _phase(cluster, pod) in {"Succeeded", "Failed"},
            END_TIMEOUT_S,
        )
        _check(cluster, pod)
        played.result = json.loads(_logs(cluster, pod).strip().splitlines()[-1])
    finally:
        cluster.kubectl("delete", "pod,configmap", pod, "--ignore-not-found", "--wait=true")


def _started(cluster: Cluster, pod: str) -> bool:
    _check(cluster, pod)
    return "started" in _logs(cluster, pod)


def _check(cluster: Cluster, pod: str) -> None:
    if _phase(cluster, pod) == "Failed":
        raise CommandFailed(f"{pod}:\n{_logs(cluster, pod)}")


def _logs(cluster: Cluster, pod: str) -> str:
    return cluster.kubectl("logs", pod) if _phase(cluster, pod) != "Pending" else ""


def _phase(cluster: Cluster, pod: str) -> str:
    return cluster.kubectl("get", "pod", pod, "-o", "jsonpath={.status.phase}")


def _pod(
    metadata: dict[str, Any],
    images: Images,
    namespace: str,
    *,
    target: str,
    secrets: Mapping[str, str],
) -> dict[str, Any]:
    """`secrets`: folder at the root to the Secret that is mounted there."""
    inventory = f"dns:///{RELEASE}-inventory.{namespace}.svc.cluster.local:50052"
    plain = {"TARGET": target, "INVENTORY": inventory, "PER_SECOND": str(PER_SECOND)}
    plain |= {f"UNITS_{sale.upper()}": str(units) for sale, units in UNITS.items()}
    secret = {"REDIS_URL": ("seckill-redis", "url"), "POSTGRES_DSN": ("seckill-postgres", "dsn")}
    env: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in plain.items()]
    env += [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}
        for variable, (name, key) in secret.items()
    ]
    container = {
        "name": "crowd",
        "image": images.product,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/crowd/crowd.py"],
        "env": env,
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}},
        "volumeMounts": [
            {"name": "crowd", "mountPath": "/crowd"},
            *({"name": each, "mountPath": f"/{each}", "readOnly": True} for each in secrets),
        ],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "restartPolicy": "Never",
            "enableServiceLinks": False,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [
                {"name": "crowd", "configMap": {"name": metadata["name"]}},
                *(
                    {"name": each, "secret": {"secretName": secret}}
                    for each, secret in secrets.items()
                ),
            ],
        },
    }
