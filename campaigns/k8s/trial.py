"""The trial of deploy/k8s/README.md: one of each, and a unit bought as the notes say."""

import re
from pathlib import Path

from campaigns.commands import CommandFailed, run
from campaigns.images import Images
from campaigns.k8s.cluster import CHART, RELEASE, Cluster
from campaigns.k8s.ground import image_values, leftovers, prepare, remove, uninstall
from campaigns.report import Report

# A command in the notes, over several lines.
COMMAND = re.compile(r"^  (kubectl exec(?:.*\\\n)*.*seckill try.*)$", re.MULTILINE)
WAIT = ("--wait", "--timeout", "300s")


def play(cluster: Cluster, images: Images, report: Report) -> None:
    """Install it, buy, uninstall."""
    values: tuple[str | Path, ...] = (
        "--values",
        CHART / "values-trial.yaml",
        *image_values(images),
    )
    with report.step("trial: stores") as step:
        prepare(cluster, images)
        step.told = "Postgres, Valkey, one Kafka broker, three topics"
    with report.step("trial: a wrong value is refused") as step:
        try:
            cluster.helm("install", RELEASE, CHART, *values, "--set", "gateway.replicas=2")
        except CommandFailed as error:
            step.expect("replicaCount" in str(error), f"without the names that exist: {error}")
        else:
            step.expect(False, "gateway.replicas was taken")
        releases = cluster.helm("list", "--short").split()
        step.expect(not releases and not leftovers(cluster), "something was installed")
        step.told = "with its path and the names that exist; nothing was installed"
    with report.step("trial: helm install --wait") as step:
        cluster.helm("install", RELEASE, CHART, *values, *WAIT, timeout_s=330)
        step.told = f"{sum(len(cluster.pods(name)) for name in SERVICES)} pods"
    with report.step("trial: the command of the notes") as step:
        notes = cluster.helm("get", "notes", RELEASE)
        command = COMMAND.search(notes)
        if command is None:
            raise CommandFailed(f"no command in the notes:\n{notes}")
        step.details["output"] = run("sh", "-euc", command[1], timeout_s=120)
        step.expect("bought" in step.details["output"], step.details["output"])
        lines = step.details["output"].split("\n")[1:3]
        step.told = " · ".join(" ".join(line.split()) for line in lines)
    with report.step("trial: helm test") as step:
        step.told = tested(cluster)
    with report.step("trial: the edge added, helm test") as step:
        cluster.upgrade(*values, "--set", "edge.enabled=true")
        step.told = tested(cluster)
    with report.step("trial: helm uninstall") as step:
        uninstall(cluster)
        step.told = "nothing left"
    remove(cluster)


SERVICES = ("gateway", "inventory", "order", "rollback")


def tested(cluster: Cluster) -> str:
    """Run `helm test`; return which tests there were. Raises CommandFailed if one fails."""
    told = cluster.helm("test", RELEASE, "--logs", timeout_s=300)
    suites = re.findall(r"TEST SUITE: +\S+-test-(\w+)", told)
    if not suites:
        raise CommandFailed(f"helm test ran nothing:\n{told}")
    return f"{', '.join(sorted(suites))} passed"
