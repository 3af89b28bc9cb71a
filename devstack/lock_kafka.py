"""Write `kafka.lock` again: `python -m devstack.lock_kafka`, after changing a version here."""

import hashlib
import tempfile
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

from devstack.artifacts import LOCK_PATH

KAFKA = "org.apache.kafka:kafka_2.13:4.3.0"
# Kafka speaks SLF4J 1.7 and brings no binding; it needs log4j2 itself for its log level bean.
LOGGING_GROUP, LOGGING_VERSION = "org.apache.logging.log4j", "2.25.4"
LOGGING = ("log4j-api", "log4j-core", "log4j-slf4j-impl")
HEADER = """\
# The jars that run Apache Kafka: group:artifact:version sha256, in class path order.
# Written by `python -m devstack.lock_kafka`.
"""


def main() -> None:
    """Resolve the broker's dependencies, fetch them, and write what was found."""
    with tempfile.TemporaryDirectory() as repository:
        context = MavenContext(resolver=PythonResolver(), repo_cache=Path(repository), timeout=60)
        # Alone: jgo lets every root manage all versions, and log4j's would lower Kafka's clients.
        roots, others = context.resolver.resolve([context.create_dependency(KAFKA)])
        wanted = {"compile", "runtime"}
        artifacts = [
            item.artifact for item in (*roots, *others) if item in roots or item.scope in wanted
        ]
        present = {artifact.artifactId for artifact in artifacts}
        artifacts += [
            context.project(LOGGING_GROUP, name).at_version(LOGGING_VERSION).artifact()
            for name in LOGGING
            if name not in present
        ]
        lines = []
        for artifact in artifacts:
            sha256 = hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()
            lines.append(f"{artifact.groupId}:{artifact.artifactId}:{artifact.version} {sha256}\n")
    LOCK_PATH.write_text(HEADER + "".join(lines))


if __name__ == "__main__":
    main()
