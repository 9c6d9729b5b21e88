"""`python -m workers`: wrong usage and half a fleet are refused in one clear sentence."""

import pytest

from server import bootstrap
from server.domain.errors import AtomasError, Reason
from server.settings import Settings
from workers.__main__ import main

FLEET = {
    "broker_url": "redis://127.0.0.1:1/0",
    "database_url": "postgresql://127.0.0.1:1/atomas",
    "qdrant_url": "http://127.0.0.1:1",
}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FLEET:
        monkeypatch.delenv(f"ATOMAS_{name.upper()}", raising=False)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, **settings: str) -> int:
    monkeypatch.setattr("sys.argv", ["workers", *arguments])
    for name, value in settings.items():
        monkeypatch.setenv(f"ATOMAS_{name.upper()}", value)
    return main()


@pytest.mark.parametrize("queues", ["import,embed", "", ","])
def test_an_unknown_queue_is_wrong_usage(queues: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, "--queues", queues)
    assert caught.value.code == 2
    assert "queue" in capsys.readouterr().err


def test_a_setting_that_is_none_is_wrong_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--queues", "import", job_resend_seconds="soon") == 2
    assert "ATOMAS_JOB_RESEND_SECONDS" in capsys.readouterr().err


@pytest.mark.parametrize("missing", FLEET)
def test_half_a_fleet_is_refused(missing: str) -> None:
    settings = Settings.model_validate({name: url for name, url in FLEET.items() if name != missing})
    with pytest.raises(AtomasError, match=f"ATOMAS_{missing.upper()}") as caught:
        bootstrap.broker(settings)
    assert caught.value.reason is Reason.INVALID_ARGUMENT


def test_a_worker_without_a_database_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--queues", "import", **FLEET) == 1
    assert "DATABASE_UNAVAILABLE" in capsys.readouterr().err
