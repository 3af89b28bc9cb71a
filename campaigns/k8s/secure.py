"""TLS between the services, users in the stores: calls refused, certificates renewed."""

import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from campaigns.commands import CommandFailed, wait_for
from campaigns.images import Images
from campaigns.k8s.cluster import RELEASE, Cluster
from campaigns.k8s.ground import KEYS, identities, image_values, prepare, remove, uninstall
from campaigns.k8s.production import COMPONENTS, VALUES, judge
from campaigns.k8s.sale import sale
from campaigns.k8s.trial import tested
from campaigns.k8s.users import create_users
from campaigns.report import Report
from devstack.authority import Authority
from devstack.certificates import MESH_DOMAIN
from seckill.runtime.callers import OPERATOR

CALLS = Path(__file__).with_name("calls.py")
METHODS = "/seckill.v1.InventoryService"
# What a gateway may ask of inventory, what it may not, and what nobody may without a certificate.
ASKED = (f"{METHODS}/ListSales", f"{METHODS}/Release", f"!{METHODS}/ListSales")
REFUSAL = f"gateway may not call {METHODS[1:]}/Release"
# A mounted Secret follows the object when the kubelet next looks at the pod, each minute or so.
MOUNTED_TIMEOUT_S = 240.0
# Longer than a connection inside the mesh lives (SECKILL_CONNECTION_AGE_MAX_S).
CONNECTIONS_TIMEOUT_S = 120.0
CONNECTIONS_OF_AN_EDGE = 4
# Where each component says when its certificate ends, and Envoy what it has read.
METRICS_PORTS = {
    "gateway": (9101,),
    "inventory": (9102,),
    "order": (9103,),
    "rollback": (9104,),
    "edge": (9105, 9106),
}
EXPIRIES = (
    'seckill_certificate_expiry_timestamp_seconds{use="mesh"}',
    'envoy_cluster_ssl_certificate_expiration_unix_time_seconds{envoy_tls_certificate="mesh",',
)
METRICS = """
import sys
from urllib.request import urlopen
for port in sys.argv[1:]:
    print(urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode())
"""


class Certificates:
    """The Secrets of the stages: who signs them, whom they trust."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        """`folder`: of the authorities' files."""
        self._cluster = cluster
        self._folder = folder
        self._issued = 0

    def authority(self, name: str) -> Authority:
        """Return a new authority."""
        return Authority(self._folder / name, f"campaign {name}")

    def issue(self, signer: Authority, *trusted: Authority) -> Mapping[str, float]:
        """Give each stage a new certificate; return when each ends, which none did before.

        Args:
            signer: who signs.
            trusted: whose certificates are in ca.crt.
        """
        self._issued += 1
        trust = "".join(each.certificate.read_text() for each in trusted)
        ends_s = {}
        for stage in (*COMPONENTS, OPERATOR):
            service = f"{RELEASE}-{stage}.{self._cluster.namespace}.svc.cluster.local"
            own = signer.issue(
                stage,
                dns=(f"{stage}.{MESH_DOMAIN}", service),
                valid=timedelta(days=7 + self._issued),
            )
            signed = x509.load_pem_x509_certificate(own.certificate.read_bytes())
            ends_s[stage] = signed.not_valid_after_utc.timestamp()
            files = {
                "tls.crt": own.certificate.read_text(),
                "tls.key": own.key.read_text(),
                "ca.crt": trust,
            }
            self._cluster.secret(f"{RELEASE}-{stage}-mesh", files, kind="kubernetes.io/tls")
        return ends_s


class Secure:
    """The campaign's steps on one release."""

    def __init__(
        self, cluster: Cluster, images: Images, report: Report, certificates: Certificates
    ) -> None:
        self._cluster = cluster
        self._images = images
        self._report = report
        self._certificates = certificates
        self._target = f"dns:///{RELEASE}-edge.{cluster.namespace}.svc.cluster.local:80"
        operator = f"{RELEASE}-{OPERATOR}-mesh"
        self._operator = operator
        self._values: tuple[str | Path, ...] = (
            "--values",
            VALUES,
            *image_values(images),
            *("--set", "meshTls.enabled=true"),
            *("--set", f"meshTls.existingSecrets.operator={operator}"),
        )

    def play(self) -> None:
        """Do all of them, in order."""
        first = self._certificates.authority("first")
        with self._report.step("secure: stores, users, certificates") as step:
            prepare(self._cluster, self._images)
            identities(self._cluster)
            self._values = (*self._values, *create_users(self._cluster))
            self._certificates.issue(first, first)
            step.told = "a certificate for each stage, a user for each service in Redis, two roles"
        with self._report.step("secure: helm install --wait") as step:
            self._cluster.upgrade(*self._values)
            pods = sum(len(self._cluster.pods(name)) for name in COMPONENTS)
            step.told = f"{pods} pods, TLS between them"
        with self._report.step("secure: helm test") as step:
            step.told = tested(self._cluster)
            step.expect("purchase" in step.told, "nothing was bought through the Service")
        self._refuse()
        self._renew(first)
        with self._report.step("secure: helm uninstall") as step:
            uninstall(self._cluster)
            step.told = "nothing left"
        remove(self._cluster)

    def _refuse(self) -> None:
        with self._report.step("secure: the table of callers") as step:
            pod = min(self._cluster.pods("gateway"))
            target = f"dns:///{RELEASE}-inventory.{self._cluster.namespace}.svc.cluster.local:50052"
            words = ("exec", "-i", pod, "--", "python", "-", target, f"inventory.{MESH_DOMAIN}")
            said = self._cluster.kubectl(*words, *ASKED, stdin=CALLS.read_text(encoding="utf-8"))
            answers = said.splitlines()
            step.details["answers"] = dict(zip(ASKED, answers, strict=True))
            permitted, forbidden, anonymous = answers
            step.expect(permitted == "OK", f"ListSales: {permitted}")
            step.expect(forbidden == f"PERMISSION_DENIED {REFUSAL}", f"Release: {forbidden}")
            step.expect(anonymous.startswith("UNAVAILABLE"), f"without a certificate: {anonymous}")
            step.told = f"ListSales answered; {REFUSAL}; no connection without a certificate"

    def _renew(self, first: Authority) -> None:
        """Renew all certificates, change their authority, by the three steps of the runbook."""
        with self._report.step("certificates, then their authority, renewed") as step:
            second = self._certificates.authority("second")
            before = {name: self._cluster.pods(name) for name in COMPONENTS}
            played = sale(
                *(self._cluster, self._images),
                target=self._target,
                keys=KEYS,
                name="renewal",
                mesh=self._operator,
            )
            with played as result:
                for signer, trusted in (
                    (first, (first, second)),
                    (second, (first, second)),
                    (second, (second,)),
                ):
                    self._issue(signer, *trusted)
                self._wait_connections()
            after = {name: self._cluster.pods(name) for name in COMPONENTS}
            step.expect(before == after and not self._cluster.restarts(), "pods were restarted")
            judge(step, result)
            step.told = f"three times, no pod restarted; {step.told}"

    def _issue(self, signer: Authority, *trusted: Authority) -> None:
        """Issue certificates, and return once every process uses them."""
        ends_s = self._certificates.issue(signer, *trusted)
        waited = {(name, pod) for name in COMPONENTS for pod in self._pods(name)}

        def used() -> bool:
            # What has been used once stays in use.
            for name, pod in sorted(waited):
                if set(self._ends(name, pod)) == {ends_s[name]}:
                    waited.remove((name, pod))
            return not waited

        try:
            wait_for("the new certificates are used", used, MOUNTED_TIMEOUT_S)
        except CommandFailed as error:
            left = {pod: self._ends(name, pod) for name, pod in waited}
            raise CommandFailed(f"{error}; {left}, not {ends_s}") from error

    def _wait_connections(self) -> None:
        """Return once the edges have connected to both gateways again, for calls and for health."""
        before = {pod: self._connections(pod) for pod in self._pods("edge")}

        def connected() -> bool:
            return all(
                self._connections(pod) >= count + CONNECTIONS_OF_AN_EDGE
                for pod, count in before.items()
            )

        wait_for("new connections of the edges", connected, CONNECTIONS_TIMEOUT_S)

    def _pods(self, component: str) -> list[str]:
        return sorted(self._cluster.pods(component))

    def _ends(self, component: str, pod: str) -> list[float]:
        """Return when the certificates end that a pod uses, Envoy's own among them."""
        return self._samples(component, pod, *EXPIRIES)

    def _connections(self, pod: str) -> float:
        return sum(self._samples("edge", pod, "envoy_cluster_upstream_cx_total"))

    def _samples(self, component: str, pod: str, *names: str) -> list[float]:
        ports = map(str, METRICS_PORTS[component])
        container = ("-c", "agent") if component == "edge" else ()
        words = ("exec", pod, *container, "--", "python", "-c", METRICS, *ports)
        lines = self._cluster.kubectl(*words).splitlines()
        return [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(names)]


def play(cluster: Cluster, images: Images, report: Report) -> None:
    """Run the campaign's steps."""
    with tempfile.TemporaryDirectory(prefix="seckill-authorities-") as folder:
        Secure(cluster, images, report, Certificates(cluster, Path(folder))).play()
