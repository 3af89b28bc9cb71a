"""Browsers at a sale's page, from a cheap client.

`python -m bench.pages.browsers ADDRESS SKU COUNT`.

Each does what the page does in a browser whose cache is empty, on six connections at most: the
page, all that it names (scripts, styles, icon, words, configuration), the clock four times, the
sale; then it asks for the sale every three to four and a half seconds. After a stay it leaves, and
the next visitor takes its place. It presses nothing: who buys is another matter.

Says "ready" on a line once each has seen the page; ends with SIGTERM, and then says what it did.
"""

import asyncio
import json
import random
import re
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import aiohttp

CONNECTIONS = 6
CLOCK_QUESTIONS = 4
STAY_S = 12.0
POLL_S = 3.0
TIMEOUT_S = 10.0
NAMED = re.compile(r'(?:href|src)="(/assets/[^"]+)"')
# Of the words that are loaded at once, the English ones.
WORDS = re.compile(r'\b(?:SHARED|TEXTS)={en:new URL\("\./([^"]+)"')
HEADERS = {"accept-encoding": "gzip, deflate, br", "user-agent": "Mozilla/5.0 (bench.pages)"}


@dataclass
class Tally:
    """What the browsers have done so far."""

    visits: int = 0
    files: int = 0
    clocks: int = 0
    looks: int = 0
    failed: int = 0
    received_bytes: int = 0


def files_of(page: str) -> list[str]:
    """Return the paths of files that a page names."""
    return list(dict.fromkeys(NAMED.findall(page)))


def words_of(scripts: Iterable[str]) -> list[str]:
    """Return the paths of the words that these scripts load at once."""
    return [f"/assets/{name}" for script in scripts for name in WORDS.findall(script)]


class Browser:
    """One place before a screen: visitors come and go."""

    def __init__(self, address: str, sku: str, tally: Tally, rng: random.Random) -> None:
        self._origin = f"http://{address}"
        self._sku = sku
        self._tally = tally
        self._rng = rng
        self.seen = asyncio.Event()

    async def run(self) -> None:
        """Visit again and again until cancelled."""
        # Not all at the same moment.
        stay_s = STAY_S * self._rng.uniform(0.3, 1.0)
        while True:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS)
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            async with aiohttp.ClientSession(
                connector=connector, timeout=timeout, headers=HEADERS
            ) as session:
                with suppress(TimeoutError):
                    async with asyncio.timeout(stay_s):
                        await self._visit(session)
            stay_s = STAY_S

    async def _visit(self, session: aiohttp.ClientSession) -> None:
        self._tally.visits += 1
        page = await self._file(session, f"/sale/?sku={self._sku}")
        names = files_of(page)
        texts = await asyncio.gather(*(self._file(session, name) for name in names))
        scripts = [text for name, text in zip(names, texts, strict=True) if name.endswith(".js")]
        more = ["/config.json", *words_of(scripts)]
        await asyncio.gather(self._clock(session), *(self._file(session, name) for name in more))
        self.seen.set()
        while True:
            await self._get(session, f"/v1/sales/{self._sku}")
            self._tally.looks += 1
            await asyncio.sleep(POLL_S * self._rng.uniform(1.0, 1.5))

    async def _clock(self, session: aiohttp.ClientSession) -> None:
        for _ in range(CLOCK_QUESTIONS):
            await self._get(session, "/v1/clock")
            self._tally.clocks += 1

    async def _file(self, session: aiohttp.ClientSession, path: str) -> str:
        self._tally.files += 1
        return await self._get(session, path)

    async def _get(self, session: aiohttp.ClientSession, path: str) -> str:
        try:
            async with session.get(self._origin + path) as answer:
                text = await answer.text()
                self._tally.received_bytes += len(text)
                self._tally.failed += not answer.ok
                return text
        except (aiohttp.ClientError, OSError):
            self._tally.failed += 1
            return ""


async def browse(address: str, sku: str, count: int) -> None:
    """Run the browsers until SIGTERM, then say what they did."""
    tally, rng = Tally(), random.Random(sku)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    browsers = [Browser(address, sku, tally, rng) for _ in range(count)]
    tasks = [asyncio.create_task(browser.run()) for browser in browsers]
    await asyncio.gather(*(browser.seen.wait() for browser in browsers))
    print("ready", flush=True)
    start_s, before = time.monotonic(), vars(tally).copy()
    await stop.wait()
    done = {name: value - before[name] for name, value in vars(tally).items()}
    print(json.dumps({"seconds": time.monotonic() - start_s, **done}), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(browse(sys.argv[1], sys.argv[2], int(sys.argv[3])))
