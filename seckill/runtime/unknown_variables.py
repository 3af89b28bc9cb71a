"""Finds SECKILL_ variables that nothing reads, e.g. misspelt ones."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping

from pydantic_settings import BaseSettings

from seckill.runtime.read_settings import ReadSettings
from seckill.runtime.settings import PREFIX, ProcessSettings, SaleMetricsSettings
from seckill.runtime.store_settings import STORES

SERVICES = ("gateway", "inventory", "order", "rollback", "edge")
# What a shared environment may hold besides the settings of the services: of the local stack, of
# tests, and of callers, who name a target, metrics, certificates and their own tokens.
_OTHERS = re.compile(
    rf"{PREFIX}(LOCAL_\w+|TEST_\w+|CACHE_DIR|OPERATOR_TOKEN|IDENTITY|PREFLIGHT_IDENTITIES|METRICS"
    rf"|TLS(_\w+)?|({'|'.join(SERVICES).upper()})_TARGET)"
)
# Kubernetes adds these for each Service of the namespace, e.g. one named seckill-gateway.
_SERVICE_LINK = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT\w*|PORT(_\d+_\w+)?)")


def unknown_variables(
    settings_type: type[BaseSettings], *, service: str, env: Mapping[str, str] = os.environ
) -> Iterator[str]:
    """Find variables that nothing reads, e.g. misspelt ones; one sentence each.

    Services may share an environment, so each one judges the variables that begin with its own
    name, and those that begin with no service's name.
    """
    known = {PREFIX + name.upper() for name in settings_type.model_fields}
    # The settings of a store that this service does not use may stand there for another one.
    for shared in (ProcessSettings, SaleMetricsSettings, ReadSettings, *STORES):
        known |= {PREFIX + name.upper() for name in shared.model_fields}
    siblings = tuple(f"{PREFIX}{name.upper()}_" for name in SERVICES if name != service)
    for variable in sorted(env):
        if not variable.startswith(PREFIX) or variable in known or variable.startswith(siblings):
            continue
        if _OTHERS.fullmatch(variable) or _SERVICE_LINK.fullmatch(variable):
            continue
        close = difflib.get_close_matches(variable, known, n=1)
        yield f"{variable} is unknown" + (f"; did you mean {close[0]}?" if close else "")
