"""A real HTTP server that speaks S3, and this process as one that uses it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from boto3.session import Session
from moto.server import ThreadedMotoServer

from tests.waiting import PATIENCE_SECONDS
from txwatch import places

REGION = "eu-central-1"
KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"


@contextmanager
def s3_server(*buckets: str) -> Iterator[Any]:
    """A server with these buckets. Gives a client of it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    # All servers of this process share what they hold.
    httpx.post(f"{address}/moto-api/reset", timeout=PATIENCE_SECONDS)
    client = Session(KEY, SECRET, region_name=REGION).client("s3", endpoint_url=address)
    for bucket in buckets:
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    try:
        yield client
    finally:
        client.close()
        server.stop()


def environment_of(client: Any) -> dict[str, str]:
    """The variables by which boto3 finds the client's server."""
    return environment_at(client.meta.endpoint_url)


def environment_at(url: str) -> dict[str, str]:
    """The variables by which boto3 finds a server."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": REGION,
    }


@contextmanager
def using_s3(environment: dict[str, str]) -> Iterator[None]:
    """This process with these variables, for the length of the block."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        places.client.cache_clear()
        try:
            yield
        finally:
            if places.client.cache_info().currsize:
                places.client().close()
            places.client.cache_clear()
