"""What a publisher sends that nobody asked for."""

import asyncio
from typing import Any

import zmq

from txwatch.clock import utc_now
from txwatch.sources.bitcoin_zmq import Hole, Notice, Subscription


def test_topics_that_only_begin_as_those_of_a_node_are_left_out() -> None:
    """A subscription is to a beginning: one who made up topics would fill the memory with their counters."""

    async def scenario() -> tuple[list[Notice | Hole], Any]:
        with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
            port = publisher.bind_to_random_port("tcp://127.0.0.1")
            subscription = await Subscription.open(f"tcp://127.0.0.1:{port}", utc_now)
            try:
                for _ in range(2):
                    await asyncio.to_thread(publisher.recv)  # both subscriptions have come
                for n in range(100):
                    publisher.send_multipart([b"rawtx%d" % n, b"x", n.to_bytes(4, "little")])
                publisher.send_multipart([b"rawtx", b"y", b"\0\0\0\0"])
                heard: list[Notice | Hole] = []
                while not heard:
                    assert await subscription.wait(60)
                    heard += subscription.read()
                return heard, subscription._counters
            finally:
                subscription.close()

    heard, counted = asyncio.run(scenario())
    assert heard == [Notice(b"rawtx", b"y")]
    assert list(counted) == [b"rawtx"]
