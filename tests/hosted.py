"""A service behind a real port on loopback, for tests of what talks to it."""

import threading
import time
from contextlib import contextmanager

import uvicorn

from raydistill.serve import settings
from raydistill.serve.answerers import Answerers
from raydistill.serve.settings import Config
from raydistill.serve.student import LocalStudent


@contextmanager
def hosted(release, **changes):
    """The address of a service of this release in a thread of this process."""
    config = settings.checked(Config(release=str(release), **changes))
    student = LocalStudent(Answerers(settings.paths(config), threads=1), watch_s=60)
    service = settings.service(config, student, {})
    app = settings.application(config, service)
    quiet = uvicorn.Config(app, port=0, log_level="error", ws="none", timeout_graceful_shutdown=2)
    server = uvicorn.Server(quiet)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the service did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(15)
