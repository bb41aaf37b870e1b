"""What every test may use. Servers and models live in fixtures of their own files."""

import os

import pytest

# Workers of a local Ray are niced by 15 by default and starve beside other busy processes.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

pytest_plugins = ["tests.fix_postgres", "tests.fix_tiny"]


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `-n 2`: what starts a Ray stays together on one worker and begins first, since one Ray
    would find the other's cluster; of the others each file goes to whoever is free.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        name = "ray" if item.get_closest_marker("ray") else item.path.name
        item.add_marker(pytest.mark.xdist_group(name))
    if getattr(config.option, "loadgroup", False):
        items.sort(key=lambda item: item.get_closest_marker("ray") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(ids: list[str]) -> None:
    """Stops where tests came without their groups: of two Rays that start at once one may fail."""
    if alone := [id for id in ids if "@" not in id]:
        pytest.exit(f"{alone[0]} has no group; use --dist loadgroup and pytest<9.2", 2)
