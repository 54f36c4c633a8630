"""Which addresses a request may go to."""

import asyncio

import pytest

from txwatch.channels.addresses import PrivateAddressError, is_public, resolve


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
        *("169.254.169.254", "192.0.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
        *("fec0::1", "::127.0.0.1", "64:ff9b:1::7f00:1", "192.0.0.192", "168.63.129.16"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::"),
    ],
)
def test_what_only_this_network_reaches_is_not(address: str) -> None:
    assert not is_public(address)


def test_a_name_is_judged_by_its_addresses() -> None:
    with pytest.raises(PrivateAddressError, match="TXWATCH_WEBHOOK_PRIVATE"):
        asyncio.run(resolve("localhost", 80, private=False))
    assert "127.0.0.1" in asyncio.run(resolve("localhost", 80, private=True))
    assert asyncio.run(resolve("1.1.1.1", 80, private=False)) == ["1.1.1.1"]
