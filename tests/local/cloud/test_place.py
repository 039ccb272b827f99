"""Clients of a cloud that needs not run."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from local.cloud.place import Place


def test_a_client_talks_to_its_cloud_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "https://sqs.example.com")
    client = Place(tmp_path, 1234).client("sqs", ("AKIA", "secret", "token"))
    assert client.meta.endpoint_url == "https://127.0.0.1:1234"
    assert client._request_signer._credentials.token == "token"


def test_threads_make_their_clients_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = threading.Lock()

    def made(*arguments: object, **more: object) -> bool:
        free = alone.acquire(blocking=False)
        time.sleep(0.01)
        if free:
            alone.release()
        return free

    monkeypatch.setattr(boto3, "client", made)
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(Place(tmp_path).client, ["s3"] * 8))
