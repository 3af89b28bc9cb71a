"""kubectl and helm, as the campaign calls them: in one namespace, with bounds in time."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from campaigns.commands import COMMAND_TIMEOUT_S, CommandFailed, run, wait_for
from devstack.mesh import REPOSITORY_ROOT

ROLLOUT_TIMEOUT_S = 420.0
CHART = REPOSITORY_ROOT / "deploy" / "k8s"
RELEASE = "seckill"


class Cluster:
    """A namespace of the cluster that KUBECONFIG names."""

    def __init__(self, namespace: str, helm: Path) -> None:
        """`helm`: the program."""
        self.namespace = namespace
        self._helm = helm

    def kubectl(
        self, *words: str, stdin: str | None = None, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> str:
        """Run kubectl in the namespace."""
        return run("kubectl", "-n", self.namespace, *words, stdin=stdin, timeout_s=timeout_s)

    def helm(self, *words: str | Path, timeout_s: float = ROLLOUT_TIMEOUT_S) -> str:
        """Run helm in the namespace."""
        return run(self._helm, *words, "--namespace", self.namespace, timeout_s=timeout_s)

    def upgrade(self, *words: str | Path) -> None:
        """Install or upgrade the release, and wait until its pods are replaced."""
        wait = ("--wait", "--timeout", f"{int(ROLLOUT_TIMEOUT_S)}s")
        self.helm(
            "upgrade", "--install", RELEASE, CHART, *words, *wait, timeout_s=ROLLOUT_TIMEOUT_S + 30
        )

    def apply(self, manifest: str) -> None:
        """Apply a manifest."""
        self.kubectl("apply", "-f", "-", stdin=manifest)

    def secret(self, name: str, data: Mapping[str, str], *, kind: str = "Opaque") -> None:
        """Create or replace a Secret; `kind`: its type."""
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
        self.apply(json.dumps({**manifest, "type": kind, "stringData": data}))

    def read(self, kind: str, *words: str) -> Sequence[dict[str, Any]]:
        """Return objects of a kind; `words` choose them, e.g. "-l", "app=a"."""
        answer = json.loads(self.kubectl("get", kind, "-o", "json", *words))
        items: Sequence[dict[str, Any]] = answer["items"]
        return items

    def pods(self, component: str) -> Mapping[str, str]:
        """Return name and uid of each pod of a component that is not being ended."""
        chosen = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"
        return {
            pod["metadata"]["name"]: pod["metadata"]["uid"]
            for pod in self.read("pods", "-l", chosen)
            if "deletionTimestamp" not in pod["metadata"]
        }

    def ready(self, component: str) -> int:
        """Return how many pods of a component are ready."""
        deployment = self.read(
            "deployments", "--field-selector", f"metadata.name={RELEASE}-{component}"
        )[0]
        return int(deployment["status"].get("readyReplicas", 0))

    def wait_ready(self, component: str, count: int) -> None:
        """Return once so many pods of a component are ready."""
        wait_for(
            f"{count} ready pods of {component}",
            lambda: self.ready(component) == count == len(self.pods(component)),
            ROLLOUT_TIMEOUT_S,
        )

    def measures(self) -> bool:
        """Whether the cluster knows how much pods use, as autoscalers need it."""
        try:
            self.kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes")
        except CommandFailed:
            return False
        return True

    def restarts(self) -> int:
        """Return how often containers of the release were restarted."""
        pods = self.read("pods", "-l", f"app.kubernetes.io/instance={RELEASE}")
        return sum(
            status["restartCount"]
            for pod in pods
            for status in pod["status"].get("containerStatuses", ())
        )
