"""Derived ids."""

from uuid import NAMESPACE_DNS, uuid5

from orgs.domain.naming import content_id, derived_id


def test_a_derived_id_is_a_uuid5_below_grams_namespace() -> None:
    namespace = uuid5(NAMESPACE_DNS, "speakeasy.com")

    assert derived_id("org_01EHZNVPK3SFK441A1RGBFSHRT") == str(
        uuid5(namespace, "org_01EHZNVPK3SFK441A1RGBFSHRT")
    )


def test_a_derived_id_does_not_change() -> None:
    # Ids of rows that exist: this value must never change, whatever the code does.
    assert derived_id("org_1") == "eba45f89-5b1f-5930-97df-c1949d69a89d"


def test_a_content_id_tells_contents_apart() -> None:
    assert content_id(b"one") == content_id(b"one") != content_id(b"two")
