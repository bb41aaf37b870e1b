"""Digests of files."""

import hashlib
from pathlib import Path


def sha256(file: Path) -> str:
    """The file's SHA-256 as hex, read in pieces of 1 MiB."""
    with file.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
