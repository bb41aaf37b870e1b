"""The tiny release, made once a test session."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from raydistill.dataset import Dataset, open_
from raydistill.release import Release
from tests.tiny import tiny_release


@dataclass(frozen=True)
class Tiny:
    """A folder with dataset/, skip/, extractor/ and release/, and the two of them that are read."""

    folder: Path
    dataset: Dataset
    release: Release


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A small real release and the dataset it was taught on."""
    folder = tmp_path_factory.mktemp("tiny")
    release = tiny_release(folder)
    return Tiny(folder, open_(folder / "dataset"), release)
