"""What only who may read channels is shown: which chats get alerts, and Telegram's numbers of people.

In a chat of two, the number of the person is the chat's id.
"""

import re

OF_A_CHAT = "^(system:)?chat_refuses:[^a-z]"
"""What matches the keys of alerts and the names of checks that name a chat. Names of channels are no secret."""
NUMBER = r" \(-?\d+\)$"
"""What matches Telegram's number of who did something, which is there for people without a user name. They may call
themselves as others are called, so that it is never left out without a word in its place."""


def names_a_chat(alert_key: str) -> bool:
    """Whether an alert says of a chat by its id."""
    return re.match(OF_A_CHAT, alert_key) is not None
