"""A chat is known by its name alone: it has none that another channel may have."""

from pathlib import Path

import pytest

from tests.serving import settings_of
from txwatch.channels.channel import WrongChannelError, channel_name, is_chat


def test_chats_of_the_settings_have_no_name_of_a_channel(tmp_path: Path) -> None:
    settings = settings_of("postgresql://h/d", tmp_path, TELEGRAM_CHAT_ID="42, -1001,@Whales,whales, Other")
    assert settings.telegram_chats == ("42", "-1001", "@whales", "@other")
    assert all(map(is_chat, settings.telegram_chats))


@pytest.mark.parametrize("name", ["siem", "a", "on-call_2", "x" * 40])
def test_a_channel_has_a_name_that_no_chat_has(name: str) -> None:
    assert channel_name(name) == name
    assert not is_chat(name)


@pytest.mark.parametrize("name", ["", "42", "-1", "@siem", "Siem", "2x", "x" * 41, "a b", "a\n", "ü"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(WrongChannelError):
        channel_name(name)
