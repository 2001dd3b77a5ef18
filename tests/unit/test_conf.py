"""The settings, as they are read from ``WORKOS_SYNC``."""

from typing import Any

import pytest

from orgs.conf import Secret, sync_settings


@pytest.mark.parametrize(
    ("key", "field", "nothing"),
    [("API_KEY", "api_key", ""), ("WEBHOOK_SECRETS", "webhook_secrets", ())],
)
def test_a_secret_that_is_none_is_not_set(
    sync_setting: Any, key: str, field: str, nothing: object
) -> None:
    sync_setting(**{key: None})

    assert getattr(sync_settings(), field) == nothing


@pytest.mark.parametrize("secrets", ["whsec_1", ["whsec_1", ""], ("whsec_1", None)])
def test_webhook_secrets_are_one_or_several(sync_setting: Any, secrets: object) -> None:
    sync_setting(WEBHOOK_SECRETS=secrets)

    assert sync_settings().webhook_secrets == (Secret("whsec_1"),)
