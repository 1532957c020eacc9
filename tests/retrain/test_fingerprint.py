"""Fingerprints: the keys of existing caches must stay what they are."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.contract import InputSpec
from retrain.backbones import Backbone
from retrain.fingerprint import fingerprint


def test_a_fingerprint_is_the_sha256_of_canonical_json() -> None:
    text = b'{"a": null, "b": [1, 2.5, "\\u00e9"]}'
    values = {"b": (1, 2.5, "é"), "a": None}
    assert fingerprint(values) == hashlib.sha256(text).hexdigest()


def test_content_follows_the_values() -> None:
    expected = hashlib.sha256(b"[1]" + b"first" + b"second").hexdigest()
    assert fingerprint([1], iter((b"first", b"second"))) == expected


def test_a_backbone_has_the_key_that_its_caches_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "retrain.backbones.backbone.decoder", lambda: "pillow-12.0.0/heif-none/rules-4"
    )
    spec = InputSpec(224, 224, 0.875, 127.0, 128.0)
    backbone = Backbone("any", spec, 1280, "1" * 64, Path(), b"")
    expected = "da0b74578cb529a1371c86c4881919ca39a7c5f8bb32c3a135a51d3a8aa76b69"
    assert backbone.fingerprint == expected
    trunk = replace(backbone, width=14 * 14 * 80, cut="add_4")
    assert trunk.fingerprint == "6e66f710ca20b8cb6c9df562f3a92415a757667da7cca4d79407a685fa76aef6"
