"""Signatures: a bundle signed by a key verifies by its public half, and nothing else does."""

import json
import sys
from pathlib import Path

import pytest

from distillery_exporter.cli import main as exporter
from distillery_exporter.share import share
from distillery_runtime.bundles.load import open_bundle
from distillery_runtime.cli.main import main as distillery
from distillery_runtime.format.manifest import Manifest, seal

pytest.importorskip("model_signing")

Key = tuple[Path, Path]  # private and public


def new_key(folder: Path, name: str) -> Key:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return new_key(tmp_path_factory.mktemp("keys"), "ours")


def test_a_signed_bundle_verifies_by_its_key_and_loads_as_before(
    bundle: Path, key: Key, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exporter(["sign", str(bundle), "--key", str(key[0])]) == 0

    assert distillery(["verify", str(bundle), "--signed-by", str(key[1])]) == 0

    assert bundle.with_name("bundle.sig").is_file()
    assert f"signed by {key[1]}" in capsys.readouterr().out


@pytest.mark.parametrize("signed_first", [True, False])
def test_a_signature_is_of_a_bundle_wherever_its_files_lie(
    bundle: Path, key: Key, tmp_path: Path, signed_first: bool
) -> None:
    """Signed whole and then shared, or signed in a set and then whole again."""
    (made,) = share([bundle], tmp_path / "set")
    one, other = (bundle, made.folder) if signed_first else (made.folder, bundle)
    signature = str(tmp_path / "signature")
    assert exporter(["sign", str(one), "--key", str(key[0]), "--out", signature]) == 0

    assert distillery(["verify", str(other), "--signed-by", str(key[1]), "--signature", signature]) == 0


def test_another_bundle_than_the_signed_one_is_refused(
    bundle: Path, key: Key, capsys: pytest.CaptureFixture[str]
) -> None:
    """A forger can seal a bundle, but not sign it."""
    assert exporter(["sign", str(bundle), "--key", str(key[0])]) == 0
    content = json.loads((bundle / "bundle.json").read_bytes())
    content["lineage"]["oracle"] = "another"
    (bundle / "bundle.json").write_bytes(seal(Manifest.model_validate_json(json.dumps(content))))
    open_bundle(bundle)

    assert distillery(["verify", str(bundle), "--signed-by", str(key[1])]) == 2

    assert "not a signature of" in capsys.readouterr().err


def test_a_signature_by_another_key_is_refused(
    bundle: Path, key: Key, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, _ = new_key(tmp_path, "theirs")
    assert exporter(["sign", str(bundle), "--key", str(private)]) == 0

    assert distillery(["verify", str(bundle), "--signed-by", str(key[1])]) == 2

    assert "not a signature of" in capsys.readouterr().err


def test_a_missing_signature_is_refused(bundle: Path, key: Key, capsys: pytest.CaptureFixture[str]) -> None:
    assert distillery(["verify", str(bundle), "--signed-by", str(key[1])]) == 2

    assert "bundle.sig: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff", b'{"dsseEnvelope": {}}'])
def test_a_damaged_signature_is_refused(bundle: Path, key: Key, damage: bytes) -> None:
    bundle.with_name("bundle.sig").write_bytes(damage)

    assert distillery(["verify", str(bundle), "--signed-by", str(key[1])]) == 2


def test_what_is_no_key_is_refused(bundle: Path, key: Key, capsys: pytest.CaptureFixture[str]) -> None:
    assert exporter(["sign", str(bundle), "--key", str(bundle / "README.md")]) == 2
    assert exporter(["sign", str(bundle), "--key", str(key[0])]) == 0
    assert distillery(["verify", str(bundle), "--signed-by", str(bundle / "README.md")]) == 2
    assert distillery(["verify", str(bundle), "--signed-by", "someone@example.org"]) == 2

    assert "--issuer" in capsys.readouterr().err


def test_a_signature_never_lies_in_the_bundle(bundle: Path, key: Key) -> None:
    assert exporter(["sign", str(bundle), "--key", str(key[0]), "--out", str(bundle / "bundle.sig")]) == 2

    open_bundle(bundle)


def test_the_pin_and_the_signature_must_agree(bundle: Path, key: Key, tmp_path: Path) -> None:
    assert exporter(["sign", str(bundle), "--key", str(key[0])]) == 0
    command = ["verify", str(bundle), "--signed-by", str(key[1]), "--expected-id"]

    assert distillery([*command, open_bundle(bundle).id]) == 0
    assert distillery([*command, "0" * 64]) == 2


def test_a_damaged_bundle_is_not_signed(bundle: Path, key: Key) -> None:
    (bundle / "README.md").write_text("edited", encoding="utf-8")

    assert exporter(["sign", str(bundle), "--key", str(key[0])]) == 2

    assert not bundle.with_name("bundle.sig").exists()


def test_without_the_extra_its_name_is_said(
    bundle: Path, key: Key, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)

    assert distillery(["verify", str(bundle), "--signed-by", str(key[1])]) == 2

    assert "pip install 'distillery-runtime[sign]'" in capsys.readouterr().err
