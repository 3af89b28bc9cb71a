"""The production profile, two of each: sales while pods die, while the release changes."""

from contextlib import AbstractContextManager
from pathlib import Path

from campaigns.commands import CommandFailed, wait_for
from campaigns.images import Images
from campaigns.k8s.cluster import RELEASE, Cluster
from campaigns.k8s.ground import KEYS, identities, image_values, prepare, remove, uninstall
from campaigns.k8s.sale import Sale, sale
from campaigns.k8s.trial import tested
from campaigns.report import Report, Step

VALUES = Path(__file__).with_name("values-production.yaml")
COMPONENTS = ("gateway", "inventory", "order", "rollback", "edge")
REPLICAS = 2
CALLS_TIMEOUT_S = 90.0
# One more gateway than before, soon after buyers come and soon after they are gone: on two cores a
# gateway takes 50 to 70 % of its small request with them, and 10 % without.
AUTOSCALER = {
    "enabled": "true",
    "maxReplicas": str(REPLICAS + 1),
    "targetCPUUtilizationPercentage": "30",
    "behavior.scaleDown.stabilizationWindowSeconds": "10",
}
DRAIN_TIMEOUT_S = 60
# Counts the batches that a pod of inventory has answered.
ANSWERED = """
from urllib.request import urlopen
text = urlopen("http://127.0.0.1:9102/metrics", timeout=5).read().decode()
print(sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
          if line.startswith("grpc_server_handled_total{") and "BatchReserve" in line))
"""


class Production:
    """The campaign's steps on one release."""

    def __init__(self, cluster: Cluster, images: Images, report: Report) -> None:
        self._cluster = cluster
        self._images = images
        self._report = report
        # Grows with what a step changes for good.
        self._values: tuple[str | Path, ...] = ("--values", VALUES, *image_values(images))
        self._target = f"dns:///{RELEASE}-edge.{cluster.namespace}.svc.cluster.local:80"

    def play(self) -> None:
        """Do all of them, in order."""
        self._install()
        self._kill_pods()
        self._upgrade()
        self._change_one_service()
        self._scale()
        self._autoscale()
        self._drain()
        self._roll_back()
        self._uninstall()

    def _install(self) -> None:
        with self._report.step("production: stores, keys") as step:
            prepare(self._cluster, self._images)
            identities(self._cluster)
            step.told = "an ES256 key pair of the campaign's own"
        with self._report.step("production: helm install --wait") as step:
            self._cluster.upgrade(*self._values)
            step.told = f"{sum(len(self._cluster.pods(name)) for name in COMPONENTS)} pods"
        with self._report.step("production: helm test") as step:
            step.told = tested(self._cluster)

    def _sale(self, name: str) -> AbstractContextManager[Sale]:
        return sale(self._cluster, self._images, target=self._target, keys=KEYS, name=name)

    def _kill_pods(self) -> None:
        with self._report.step("a pod of each stage killed") as step:
            with self._sale("kills") as played:
                for component in COMPONENTS:
                    victim = min(self._cluster.pods(component))
                    self._cluster.kubectl("delete", "pod", victim, "--grace-period=0", "--force")
                    self._cluster.wait_ready(component, REPLICAS)
            judge(step, played)

    def _upgrade(self) -> None:
        with self._report.step("release upgraded, all pods replaced") as step:
            before = {name: set(self._cluster.pods(name).values()) for name in COMPONENTS}
            self._values = (*self._values, "--set", "settings.log_level=warning")
            with self._sale("upgrade") as played:
                self._cluster.upgrade(*self._values)
            for name in COMPONENTS:
                kept = before[name] & set(self._cluster.pods(name).values())
                step.expect(not kept, f"{len(kept)} pods of {name} were kept")
            judge(step, played)

    def _change_one_service(self) -> None:
        with self._report.step("a setting of one service changed") as step:
            before = {name: set(self._cluster.pods(name).values()) for name in COMPONENTS}
            self._values = (*self._values, "--set", "order.settings.order_batch_max=500")
            self._cluster.upgrade(*self._values)
            after = {name: set(self._cluster.pods(name).values()) for name in COMPONENTS}
            replaced = [name for name in COMPONENTS if before[name] != after[name]]
            step.expect(replaced == ["order"], f"replaced were the pods of {replaced}")
            step.told = "the pods of order were replaced, no others"

    def _scale(self) -> None:
        with self._report.step("inventory scaled 2 → 3 → 2") as step:
            before = self._cluster.pods("inventory").keys()
            with self._sale("scale") as played:
                self._cluster.upgrade(*self._values, "--set", "inventory.replicaCount=3")
                (new,) = self._cluster.pods("inventory").keys() - before
                wait_for("calls of the new pod", lambda: self._answered(new) > 0, CALLS_TIMEOUT_S)
                self._cluster.upgrade(*self._values)
                self._cluster.wait_ready("inventory", REPLICAS)
            judge(step, played)
            step.told = f"the new pod was called; {step.told}"

    def _autoscale(self) -> None:
        with self._report.step("gateway 2 → 3 → 2 by its autoscaler") as step:
            if not self._cluster.measures():
                step.told = "left out: the cluster has no metrics.k8s.io"
                return
            chosen = (f"gateway.autoscaling.{name}={value}" for name, value in AUTOSCALER.items())
            autoscaled = [word for value in chosen for word in ("--set", value)]
            with self._sale("autoscaler") as played:
                self._cluster.upgrade(*self._values, *autoscaled)
                self._cluster.wait_ready("gateway", REPLICAS + 1)
            self._cluster.wait_ready("gateway", REPLICAS)
            # The number of pods has been the autoscaler's, and is the values' again.
            self._cluster.upgrade(*self._values, "--force-conflicts")
            judge(step, played)

    def _answered(self, pod: str) -> float:
        return float(self._cluster.kubectl("exec", pod, "--", "python", "-c", ANSWERED))

    def _drain(self) -> None:
        with self._report.step("node drained, as far as the PDBs let") as step:
            node = self._cluster.read("pods", "-l", "app.kubernetes.io/component=gateway")[0]
            name = node["spec"]["nodeName"]
            chosen = f"--pod-selector=app.kubernetes.io/instance={RELEASE}"
            nodes = len(self._cluster.read("nodes"))
            with self._sale("drain") as played:
                try:
                    drained = self._drain_node(name, chosen)
                    left = {component: self._cluster.ready(component) for component in COMPONENTS}
                finally:
                    self._cluster.kubectl("uncordon", name)
                for component in COMPONENTS:
                    self._cluster.wait_ready(component, REPLICAS)
            step.expect(all(left.values()), f"ready pods during it: {left}")
            # With one node the pods that were evicted have nowhere to go: the second one must stay.
            step.expect(drained == (nodes > 1), "the drain ended otherwise than it must")
            judge(step, played)
            step.told = f"one of each kept; {step.told}"

    def _drain_node(self, name: str, chosen: str) -> bool:
        """Return whether the drain came to its end within its time."""
        try:
            self._cluster.kubectl(
                *("drain", name, chosen, "--ignore-daemonsets", "--delete-emptydir-data"),
                f"--timeout={DRAIN_TIMEOUT_S}s",
                timeout_s=DRAIN_TIMEOUT_S + 30,
            )
        except CommandFailed:
            return False
        return True

    def _roll_back(self) -> None:
        with self._report.step("helm rollback, helm test") as step:
            self._cluster.upgrade(*self._values, "--set", "gateway.settings.gateway_batch_max=64")
            self._cluster.helm("rollback", RELEASE, "--wait", "--timeout", "300s")
            config = self._cluster.read("configmaps", "-l", "app.kubernetes.io/component=gateway")
            step.expect("SECKILL_GATEWAY_BATCH_MAX" not in config[0]["data"], "is not rolled back")
            step.told = tested(self._cluster)
            step.details["restarts"] = self._cluster.restarts()

    def _uninstall(self) -> None:
        with self._report.step("production: helm uninstall") as step:
            uninstall(self._cluster)
            step.told = "nothing left"
        remove(self._cluster)


def play(cluster: Cluster, images: Images, report: Report) -> None:
    """Run the campaign's steps."""
    Production(cluster, images, report).play()


def judge(step: Step, played: Sale) -> None:
    """Note what a sale came to, which is a problem unless it is clean."""
    step.details["sale"] = played.result
    step.told = played.line()
    step.expect(played.clean, step.told)
