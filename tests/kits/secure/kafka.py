"""Kafka with a listener for each kind of client: TLS, mutual TLS, SASL over TLS, SASL in clear."""

from pathlib import Path

from devstack.authority import Authority
from devstack.kafka import KafkaServer
from devstack.ports import LOOPBACK, pick_free_port
from tests.kits.secure.rights import KAFKA_STAGES

# May everything; the stages have the rights that are granted (rights.py).
USER, PASSWORD = "seckill", "of-the-mesh"
USERS = (USER, *(f"seckill-{stage}" for stage in KAFKA_STAGES))
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_LISTENERS = {"TLS": "SSL", "MUTUAL": "SSL", "SASLTLS": "SASL_SSL", "SASLCLEAR": "SASL_PLAINTEXT"}
_MODULE = "org.apache.kafka.common.security"


class SecureKafka(KafkaServer):
    """One broker; `url` is a listener in clear, for what prepares a test."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        super().__init__(directory)
        self._authority = authority
        self._ports = {name: pick_free_port() for name in _LISTENERS}

    def listener(self, name: str) -> str:
        """Return host:port of a listener: TLS, MUTUAL, SASLTLS or SASLCLEAR."""
        return f"{LOOPBACK}:{self._ports[name]}"

    def _format_options(self) -> tuple[str, ...]:
        return tuple(
            text
            for user in USERS
            for mechanism in SCRAM
            for text in ("--add-scram", f"{mechanism}=[name={user},password={PASSWORD}]")
        )

    def _further_listeners(self) -> str:
        return "".join(f",{name}://{self.listener(name)}" for name in _LISTENERS)

    def _further_properties(self) -> str:
        issued = self._authority.issue("kafka")
        keystore = self.directory / "keystore.pem"
        keystore.write_bytes(issued.key.read_bytes() + issued.certificate.read_bytes())
        kinds = ",".join(f"{name}:{kind}" for name, kind in _LISTENERS.items())
        lines = [
            f"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,{kinds}",
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={keystore}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={self._authority.certificate}",
            "listener.name.mutual.ssl.client.auth=required",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            f"super.users=User:ANONYMOUS;User:{USER};User:CN={USER}",
        ]
        for name in ("sasltls", "saslclear"):
            prefix = f"listener.name.{name}"
            lines.append(f"{prefix}.sasl.enabled.mechanisms=PLAIN,{','.join(SCRAM)}")
            lines.append(
                f"{prefix}.plain.sasl.jaas.config={_MODULE}.plain.PlainLoginModule required"
                f' user_{USER}="{PASSWORD}";'
            )
            lines += [
                f"{prefix}.{mechanism.lower()}.sasl.jaas.config="
                f"{_MODULE}.scram.ScramLoginModule required;"
                for mechanism in SCRAM
            ]
        return "\n".join([*lines, ""])
