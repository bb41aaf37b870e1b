"""No secret in a tracked file: keys, tokens, and passwords in addresses."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATTERNS = {
    "private key": r"-----BEGIN (?:[A-Z ]+ )?PRIVATE KEY-----",
    "AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36,}\b",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{20,}",
    "OpenAI-like key": r"\bsk-[A-Za-z0-9_-]{24,}",
    "Google key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "JSON web token": r"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.",
    "assigned secret": r"(?i)\b(?:api_key|secret_key|auth_token)\s*[:=]\s*['\"][\w+/-]{20,}['\"]",
    "password in an address": r"://[^/\s:@'\"{}<]+:(?!secret@|sesame-street@|\*)[^/\s:@'\"{}<%$]{4,}@",
}


def _tracked():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_tracked_file_holds_a_secret():
    found = []
    for file in _tracked():
        if not file.is_file() or file.suffix in (".png", ".ico", ".woff2"):
            continue
        text = file.read_text(errors="replace")
        for name, pattern in PATTERNS.items():
            found += [f"{file.name}: {name}: {m[0][:40]}" for m in re.finditer(pattern, text)]
    assert found == []


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("private key", "-----BEGIN RSA " + "PRIVATE KEY-----"),
        ("AWS key", "AKIA" + "ABCDEFGHIJKLMNOP"),
        ("password in an address", "postgresql://me:" + "hunter22@db/x"),
        ("assigned secret", "api_key" + " = 'abcdefghijklmnopqrstuvwx'"),
    ],
)
def test_a_planted_secret_is_found(name, planted):
    assert re.search(PATTERNS[name], planted)
