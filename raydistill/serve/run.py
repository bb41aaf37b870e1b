"""serve: answers over HTTP, on Ray Serve or in this process; and its tokens and its mode."""

import os
import queue
import signal
from pathlib import Path
from typing import Any

import uvicorn

from raydistill.errors import SetupError
from raydistill.progress import table
from raydistill.serve import settings, tokens
from raydistill.serve.answerers import Answerers
from raydistill.serve.rollout import Rollout
from raydistill.serve.settings import Action, Config, Runtime
from raydistill.serve.student import LocalStudent, Student

__all__ = ["Config", "run"]


def run(config: Config) -> Any:
    """Does the action of `config`; `run` answers until it is told to stop."""
    if config.action is Action.run:
        return _serve(settings.checked(config))
    if config.action is Action.mode:
        return _mode(config)
    if config.tokens is None:
        raise SetupError(f"action={config.action.value} without tokens", todo="set tokens=FILE")
    file = Path(config.tokens)
    if config.action is Action.token:
        made = tokens.create(
            file, _name(config), scopes=tuple(config.scopes),
            rate_per_s=config.rate_per_s, quota=config.quota,
        )  # fmt: skip
        print(f"{made}\nIt is shown this once: only its hash is in {file}.")
    elif config.action is Action.revoke:
        tokens.revoke(file, _name(config))
        print(f"revoked {config.name}")
    else:
        rows = [
            (one.name, ",".join(one.scopes), str(one.rate_per_s or "-"), str(one.quota or "-"),
             one.created_at, one.revoked_at or "-")
            for one in tokens.read(file).values()
        ]  # fmt: skip
        print(table(rows, ("name", "scopes", "rate", "quota", "created", "revoked")))
    return None


def _name(config: Config) -> str:
    if not config.name:
        raise SetupError(f"action={config.action.value} without a name", todo="set name=NAME")
    return config.name


def _mode(config: Config) -> None:
    """Changes the state file that running services read."""
    if config.rollout.state is None:
        raise SetupError("action=mode without rollout.state", todo="set rollout.state=FILE")
    changes = {"mode": config.mode, "share": config.share}
    given = {name: value for name, value in changes.items() if value is not None}
    made = Rollout(config.rollout).change(reason="changed by action=mode", **given)
    print(f"mode {made.mode.value}, share {made.share:g}, in {config.rollout.state}")


def _serve(config: Config) -> None:
    rollout = Rollout(config.rollout)
    where = f" (as {rollout.file} says)" if rollout.file and rollout.file.exists() else ""
    scheme = "https" if config.tls_cert else "http"
    print(
        f"serve: {scheme}://{config.host}:{config.port}, release {config.release},"
        f" mode {rollout.state.mode.value}{where}, on {config.runtime.value};"
        " Ctrl-C drains and stops",
        flush=True,
    )
    if config.runtime is Runtime.local:
        plan = settings.plan(config, os.cpu_count() or 1)
        held = Answerers(settings.paths(config), threads=plan.threads)
        _answer(config, LocalStudent(held, watch_s=config.watch_s, most=config.batch_tokens))
        return
    from raydistill.serve import deployment

    try:
        if config.runtime is Runtime.ray:
            _answer(config, deployment.start_replicas(config))
            return
        # An Event is no place for a signal: set while it is being waited for, it locks for ever.
        asked: queue.SimpleQueue[int] = queue.SimpleQueue()
        deployment.start(config)
        for name in (signal.SIGINT, signal.SIGTERM):  # Ray sets its own when it starts
            signal.signal(name, lambda number, _: asked.put(number))
        print("serve: ready", flush=True)
        asked.get()
    finally:
        deployment.stop()


def _answer(config: Config, student: Student) -> None:
    """Answers in this process until SIGINT or SIGTERM; requests under way are finished first."""
    settings.logging_to_stderr()
    made = settings.service(config, student, os.environ)
    server = _Server(
        uvicorn.Config(
            settings.application(config, made),
            host=config.host,
            port=config.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(config.drain_s),
            ssl_certfile=config.tls_cert,
            ssl_keyfile=config.tls_key,
        )
    )
    for name in (signal.SIGINT, signal.SIGTERM):  # raised once more when the server has ended
        signal.signal(name, lambda *_: None)
    try:
        server.run()
    except SystemExit:  # uvicorn has said why
        raise SetupError(
            f"{config.host}:{config.port} cannot be opened", todo="choose another host= or port="
        ) from None


class _Server(uvicorn.Server):
    """Says when it answers."""

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print("serve: ready", flush=True)
