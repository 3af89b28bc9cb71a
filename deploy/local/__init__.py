"""The local stack: Postgres, Valkey and Kafka as child processes, from Python wheels alone.

`LocalStack` starts all three and stops them with this process; `PostgresServer`, `ValkeyServer`,
`Redis62Server` and `KafkaServer` are one store each; `Supervisor` runs the stores and further
processes; `start_background` and `stop_background` keep such a supervisor between two commands.
Whatever is wrong on the machine is a `StackError` of one line.
"""

from deploy.local.background import running_state, start_background, stop_background
from deploy.local.errors import StackError
from deploy.local.kafka import KafkaServer
from deploy.local.postgres import PostgresServer
from deploy.local.process import Process, ProcessSpec
from deploy.local.settings import LocalSettings, Stores
from deploy.local.stack import LocalStack
from deploy.local.state import RunningProcess, StackState
from deploy.local.supervisor import Supervisor
from deploy.local.topics import create_topics
from deploy.local.valkey import Redis62Server, ValkeyServer

__all__ = [
    "KafkaServer",
    "LocalSettings",
    "LocalStack",
    "PostgresServer",
    "Process",
    "ProcessSpec",
    "Redis62Server",
    "RunningProcess",
    "StackError",
    "StackState",
    "Stores",
    "Supervisor",
    "ValkeyServer",
    "create_topics",
    "running_state",
    "start_background",
    "stop_background",
]
