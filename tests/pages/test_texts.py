"""Every reason and every outcome has a sentence in both languages, and says what to do next."""

import json
import re
from pathlib import Path

import pytest

from devstack.mesh import REPOSITORY_ROOT
from seckill.v1 import errors_pb2, inventory_pb2, order_pb2

WEB = REPOSITORY_ROOT / "web"
LANGUAGES = ("en", "zh")
FOLDERS = sorted(path.parent.relative_to(WEB) for path in WEB.rglob("en.json"))
SECTIONS = sorted({folder.parts[0] for folder in FOLDERS})
VALUE = re.compile(r"\{\w+\}")
# t("…"), data-text="…" and data-label="…": keys that the pages name in full.
NAMED = re.compile(r"""(?:\bt\(|data-(?:text|label)=)\s*"([\w.]+)\"""")


def texts(folder: Path | str, language: str) -> dict[str, str]:
    """Return the words of a folder."""
    loaded: dict[str, str] = json.loads((WEB / folder / f"{language}.json").read_text())
    return loaded


def section_texts(section: str, language: str) -> dict[str, str]:
    """Return all words of a section: those that come with its pages, and those that come later."""
    folders = (folder for folder in FOLDERS if folder.parts[0] == section)
    return {key: text for folder in folders for key, text in texts(folder, language).items()}


def known(keys: set[str], key: str) -> bool:
    """Whether there is such a text, or a form of it for a count."""
    return key in keys or f"{key}.other" in keys


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_and_every_outcome_has_a_sentence(language: str) -> None:
    """What the contract adds must be said to buyers too."""
    reasons = {
        f"reason.{name.removeprefix('ERROR_REASON_')}"
        for name in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name
    } - {"reason.UNSPECIFIED"}
    outcomes = {
        f"outcome.{name.removeprefix('PURCHASE_OUTCOME_')}"
        for name in inventory_pb2.PurchaseOutcome.DESCRIPTOR.values_by_name
    } - {"outcome.UNSPECIFIED"}
    said = section_texts("shared", language)
    assert {key for key in said if key.startswith("outcome.")} == outcomes
    # Reasons that are outcomes, too, have the outcome's sentence.
    reasons -= {f"reason.{key.removeprefix('outcome.')}" for key in outcomes}
    own = {"reason.offline", "reason.unknown"}
    assert {key for key in said if key.startswith("reason.")} == reasons | own
    for key in reasons | outcomes:
        # What happened, and what to do next: no code, no single word.
        assert len(said[key]) >= 10, key
        assert said[key][-1] in ".。", key
        assert "_" not in VALUE.sub("", said[key]), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_outcome_and_every_state_has_its_words_on_the_page(language: str) -> None:
    """The title of a refusal, and of an order that is over."""
    said = section_texts("store", language)
    refused = set(inventory_pb2.PurchaseOutcome.DESCRIPTOR.values_by_name) - {
        "PURCHASE_OUTCOME_UNSPECIFIED",
        "PURCHASE_OUTCOME_RESERVED",
    }
    assert {f"result.{name.removeprefix('PURCHASE_OUTCOME_')}" for name in refused} <= set(said)
    # What the order's panel says of those that have words of their own in it.
    own = {"PENDING": "yours", "PAID": "paid", "CANCELLED": "cancelled"}
    states = {
        name.removeprefix("ORDER_STATE_") for name in order_pb2.OrderState.DESCRIPTOR.values_by_name
    } - {"UNSPECIFIED"}
    assert {f"order.{own.get(name, name)}" for name in states} <= set(said)


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_both_languages_say_the_same(folder: Path) -> None:
    """The same texts, with the same values in them; Chinese needs no singular."""
    english, chinese = texts(folder, "en"), texts(folder, "zh")
    assert {key for key in english if not key.endswith(".one")} == set(chinese)
    for key, text in chinese.items():
        assert set(VALUE.findall(text)) == set(VALUE.findall(english[key])), key


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("section", SECTIONS)
def test_every_text_that_a_page_names_is_there(section: str, language: str) -> None:
    """Of the page's own words, and of those that all pages share."""
    keys = set(section_texts(section, language)) | set(section_texts("shared", language))
    sources = [*(WEB / section).rglob("*.js"), *(WEB / section).rglob("*.html")]
    named = {key for source in sources for key in NAMED.findall(source.read_text())}
    assert {key for key in named if not known(keys, key)} == set()
