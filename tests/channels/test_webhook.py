"""A webhook's signature, and what each answer means."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.channels.receiver import receiver
from txwatch.channels.channel import Target
from txwatch.channels.outcomes import ChannelRefused, Gone, NotSent, Refused, Sent
from txwatch.channels.webhook import LONGEST_PAUSE, Event, WebhookPoster, outcome, pause, signature

NOW = datetime(2024, 3, 14, 12, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
PAGE = Path(__file__).parents[2] / "docs/channels.md"


def test_the_signature_is_that_of_hmac_sha256_over_time_and_body() -> None:
    # echo -n '1710417600.{"a":1}' | openssl dgst -sha256 -hmac 'a secret of thirty-two letters, or more'
    one = "117d3449531d1cbe83ed89ffe1bf493eb18285dc1b3e13bcf3b041e73f57d5ff"
    said = signature(["a secret of thirty-two letters, or more"], b'{"a":1}', NOW)
    assert said == f"t=1710417600,v1={one}"
    two = signature(["a secret of thirty-two letters, or more", "another"], b'{"a":1}', NOW)
    assert two.startswith(f"{said},v1=")
    assert len(two) == len(said) + len(",v1=") + 64


def test_the_example_of_the_documentation_verifies_it() -> None:
    code = PAGE.read_text().split("```python\n")[1].split("```")[0]
    namespace: dict[str, object] = {}
    exec(code, namespace)  # noqa: S102 - it is ours
    is_from_txwatch = namespace["is_from_txwatch"]
    assert callable(is_from_txwatch)
    header = signature(["new secret", "old secret"], b"body", datetime.now(UTC))
    assert is_from_txwatch("new secret", header, b"body")
    assert is_from_txwatch("old secret", header, b"body")
    assert not is_from_txwatch("another", header, b"body")
    assert not is_from_txwatch("new secret", header, b"bodY")
    assert not is_from_txwatch("new secret", signature(["new secret"], b"body", NOW), b"body"), "it is old"


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The certificate of a server named localhost, which this machine trusts."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - HOUR, now + 24 * HOUR)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    file.write_bytes(
        certificate.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_the_certificate_must_be_that_of_the_name_though_the_address_is_asked(certified: ssl.SSLContext) -> None:
    async def posted(*urls: str) -> list[object]:
        async with WebhookPoster(private=True) as poster:
            return [await poster.post(Target(url, ("secret",)), Event("alert.created", "a/0", b"{}")) for url in urls]

    with receiver(tls=certified) as hook:
        well, other = asyncio.run(posted(f"https://localhost:{hook.port}/hook", f"https://127.0.0.1:{hook.port}/hook"))
        assert well == Sent()
        assert isinstance(other, NotSent)
        assert "certificate is not valid for 'its host'" in other.reason, "everybody may read it"
        assert [post.headers["host"] for post in hook.posts] == [f"localhost:{hook.port}"]


def test_a_name_that_is_none_and_a_url_that_cannot_be_used_are_told() -> None:
    async def posted(url: str) -> object:
        async with WebhookPoster(private=True) as poster:
            return await poster.post(Target(url, ("secret",)), Event("alert.created", "a/0", b"{}"))

    missing = asyncio.run(posted("https://nowhere.invalid/secret-path"))
    assert isinstance(missing, NotSent)
    assert "cannot be resolved" in missing.reason
    assert isinstance(asyncio.run(posted("https://a..b:99999/secret-path")), ChannelRefused | NotSent)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, Sent) for status in (200, 201, 202, 204, 299)),
        *((status, ChannelRefused) for status in (300, 301, 302, 303, 307, 308, 401, 403, 404, 405, 409)),
        *((status, NotSent) for status in (408, 425, 429, 500, 502, 503, 504, 599)),
        *((status, Refused) for status in (400, 413, 422)),
        (410, Gone),
    ],
)
def test_each_status_has_one_meaning(status: int, kind: type) -> None:
    assert type(outcome(status, None, NOW)) is kind


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", 3 * SECOND),
        ("0", 0 * SECOND),
        (" 90 ", 90 * SECOND),
        ("\xa0" * 30 + "90", 90 * SECOND),
        ("9" * 400, LONGEST_PAUSE),
        ("Thu, 14 Mar 2024 12:05:00 GMT", 300 * SECOND),
        ("Thu, 14 Mar 2024 12:05:00", 300 * SECOND),
        ("Thu, 14 Mar 2024 11:00:00 GMT", 0 * SECOND),
        ("Fri, 14 Mar 2999 12:00:00 GMT", LONGEST_PAUSE),
    ],
)
def test_a_pause_is_in_seconds_or_until_a_date_and_bounded(asked: str | None, expected: timedelta | None) -> None:
    assert pause(asked, NOW) == expected
