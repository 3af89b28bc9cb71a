"""A collector that takes all spans and keeps none: what is measured is who sends them."""

import argparse

from aiohttp import web


async def _take(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/traces", _take)
    web.run_app(app, host="127.0.0.1", port=parser.parse_args().port, print=None)
