"""A server that speaks the OpenAI chat protocol over real HTTP, and misbehaves as it is told."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Says:
    """One response: `text` in a whole chat completion, or `body` as it is; `hang` says nothing,
    `cut` breaks the connection, `drip` sends a byte at a time."""

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    hang: bool = False
    cut: bool = False
    drip: bool = False


@dataclass
class Server:
    """What has been asked so far, in order."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def prompts(self) -> list[str]:
        return [one["messages"][-1]["content"] for one in self.requests]


@contextlib.contextmanager
def serving(says: Callable[[int, str], Says]) -> Iterator[Server]:
    """A server that answers request number n (from 0) with prompt p by `says(n, p)`."""
    lock, stop = threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(server.requests)
                server.requests.append(body)
                server.keys.append(self.headers.get("Authorization"))
            said = says(number, body["messages"][-1]["content"])
            if self.path != "/v1/chat/completions":
                said = Says(status=404, body=b'{"error": {"message": "no such path"}}')
            if said.hang:
                stop.wait(20)
            if said.hang or said.cut:
                self.close_connection = True
                return
            content = said.body if said.body is not None else _completion(said.text)
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            for at in range(len(content) if said.drip else 0):
                self.wfile.write(content[at : at + 1])
                stop.wait(0.05)
            if not said.drip:
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # clients that gave up

    http = Quiet(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{http.server_address[1]}/v1")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        stop.set()
        http.shutdown()
        thread.join()
        http.server_close()


def _completion(text: str) -> bytes:
    value = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "teacher",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
    return json.dumps(value).encode()
