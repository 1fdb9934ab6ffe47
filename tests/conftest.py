"""Fixtures shared by all tests: the small bundle of the fixtures folder, copied where a test may damage it."""

import os
import shutil
from pathlib import Path

import pytest

import distillery_runtime

REPOSITORY = Path(__file__).parent.parent
FIXTURE_BUNDLE = REPOSITORY / "tests" / "fixtures" / "bundle-v1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where CI demands torch, a test that would be skipped for want of it is an error."""
    if os.environ.get("DISTILLERY_REQUIRE_TORCH"):
        import torch  # noqa: F401


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the fixture bundle."""
    return Path(shutil.copytree(FIXTURE_BUNDLE, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def scorer() -> distillery_runtime.HybridScorer:
    return distillery_runtime.load(FIXTURE_BUNDLE)
