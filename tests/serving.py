"""A service over a release, behind its ASGI interface, for tests."""

from contextlib import asynccontextmanager

import httpx

from raydistill.serve import settings
from raydistill.serve.answerers import Answerers
from raydistill.serve.settings import Config
from raydistill.serve.student import LocalStudent


@asynccontextmanager
async def served(release, *, environment=None, student=None, headers=None, **changes):
    """An HTTP client of a running application, its service as `client.service`."""
    config = settings.checked(Config(release=str(release), **changes))
    student = student or LocalStudent(
        Answerers(settings.paths(config), threads=1), watch_s=config.watch_s
    )
    service = settings.service(config, student, environment or {})
    app = settings.application(config, service)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=headers, timeout=30
        ) as client,
    ):
        client.service = service
        yield client
