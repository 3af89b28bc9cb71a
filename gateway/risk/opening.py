"""Puts together what judges callers, as the settings say."""

from gateway.metrics import watch_size
from gateway.risk.assessor import Assessor, Histories
from gateway.risk.crowds import Crowds
from gateway.risk.judgement import Judge
from gateway.risk.settings import RiskSettings
from gateway.risk.signals import parse_weights


def build_assessor(settings: RiskSettings, histories: Histories | None) -> Assessor:
    """What judges callers; `histories` knows their orders, None if nobody does."""

    def crowds(table: str) -> Crowds:
        opened = Crowds(
            window_s=settings.gateway_risk_window_s, keys_max=settings.gateway_risk_keys_max
        )
        watch_size(table, lambda: len(opened))
        return opened

    return Assessor(
        Judge(parse_weights(settings.gateway_risk_weights), settings.risk_scale()),
        by_address=crowds("addresses"),
        by_fingerprint=crowds("fingerprints"),
        histories=histories,
        decisions_max=settings.gateway_risk_decisions_max,
    )
