"""The local stack: Postgres, Valkey and Kafka as child processes, from Python wheels alone.

`LocalStack` starts all three and stops them with this process; `PostgresServer`, `ValkeyServer`,
`Redis62Server` and `KafkaServer` are one store each, `ValkeyCluster` is six nodes; `Supervisor`
runs the stores and further processes; `start_background` and `stop_background` keep such a
supervisor between two commands.
Whatever is wrong on the machine is a `StackError` of one line.
"""

from devstack.background import running_state, start_background, stop_background
from devstack.errors import StackError
from devstack.kafka import KafkaServer
from devstack.postgres import PostgresServer
from devstack.process import Process, ProcessSpec
from devstack.settings import LocalSettings, Stores
from devstack.stack import LocalStack
from devstack.state import RunningProcess, StackState
from devstack.supervisor import Services, Supervisor
from devstack.topics import create_topics
from devstack.valkey import Redis62Server, ValkeyServer
from devstack.valkey_cluster import ValkeyCluster

__all__ = [
    "KafkaServer",
    "LocalSettings",
    "LocalStack",
    "PostgresServer",
    "Process",
    "ProcessSpec",
    "Redis62Server",
    "RunningProcess",
    "Services",
    "StackError",
    "StackState",
    "Stores",
    "Supervisor",
    "ValkeyCluster",
    "ValkeyServer",
    "create_topics",
    "running_state",
    "start_background",
    "stop_background",
]
