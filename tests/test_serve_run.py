"""The verb: tokens and modes from the command line, and one process that answers and drains."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from raydistill import config as configuration
from raydistill.errors import SetupError
from raydistill.serve import run as verb
from raydistill.serve import settings, tokens
from raydistill.serve.rollout import Mode, Rollout, RolloutConfig
from raydistill.serve.settings import Action, Config

ROOT = Path(__file__).parents[1]


def test_tokens_are_made_listed_and_revoked(tmp_path, capsys):
    file = str(tmp_path / "tokens")
    verb.run(Config(release="r", action=Action.token, tokens=file, name="ann", quota=10))
    shown = capsys.readouterr().out.split()[0]
    assert tokens.Tokens(Path(file)).check(f"Bearer {shown}", "extract").quota == 10
    verb.run(Config(release="r", action=Action.revoke, tokens=file, name="ann"))
    verb.run(Config(release="r", action=Action.tokens, tokens=file))
    said = capsys.readouterr().out
    assert "ann" in said
    assert shown not in said
    with pytest.raises(SetupError, match="no token"):
        verb.run(Config(release="r", action=Action.revoke, tokens=file, name="bob"))
    with pytest.raises(SetupError, match="name="):
        verb.run(Config(release="r", action=Action.token, tokens=file, name="Not A Name"))


def test_a_mode_is_changed_for_a_running_service(tmp_path):
    state = RolloutConfig(state=str(tmp_path / "state.json"))
    verb.run(Config(release="r", action=Action.mode, rollout=state, mode=Mode.canary, share=0.2))
    assert (Rollout(state).state.mode, Rollout(state).state.share) == (Mode.canary, 0.2)


def test_half_a_certificate_and_missing_files_are_refused(tiny, tmp_path):
    release = str(tiny.release.folder)
    with pytest.raises(SetupError, match="tls_cert"):
        settings.checked(Config(release=release, tls_cert="a.pem"))
    with pytest.raises(SetupError, match="missing"):
        settings.checked(Config(release=release, tokens=str(tmp_path / "none")))
    with pytest.raises(SetupError, match="does not answer"):
        settings.checked(Config(release=release, task="query_dates"))


def test_the_file_for_serves_command_line_is_a_config():
    file = yaml.safe_load((ROOT / "conf" / "serve" / "app.yaml").read_text())
    (application,) = file["applications"]
    made = configuration.plain(Config, application["args"])
    assert (made.host, file["http_options"]["host"]) == ("127.0.0.1", made.host)
    with pytest.raises(SetupError, match="release"):
        configuration.plain(Config, {"relase": "x"})


def metrics(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def test_one_process_answers_and_finishes_what_is_under_way_when_it_is_told_to_stop(tiny, tmp_path):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "jobs/serve.py", f"root={tmp_path}", "runtime=local", "threads=1",
         f"release={tiny.release.folder}", f"port={port}"],
        cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert any("ready" in line and line.startswith("serve: r") for line in process.stdout)
    texts = tiny.dataset.table("test")["text"].to_pylist()[:250]
    body = json.dumps({"sentences": texts}).encode()
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    asking.putrequest("POST", "/v1/extract")
    headers = {"Content-Type": "application/json", "X-Request-Id": "last"}
    for name, value in (headers | {"Content-Length": str(len(body))}).items():
        asking.putheader(name, value)
    asking.endheaders(body[:100])
    while "raydistill_under_way 2.0" not in metrics(port):  # this one and the metrics' own
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    asking.send(body[100:])
    answer = json.loads(asking.getresponse().read())
    asking.close()
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(answer["results"]) == 250
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [one["status"] for one in lines if one.get("id") == "last"] == [200]
    assert texts[0] not in log
