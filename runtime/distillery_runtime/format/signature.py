"""Signatures of bundles: who made one, by a key or by Sigstore. They stand beside the folder, as `<folder>.sig`.

Needs the extra `sign`, the package model-signing, whose form of signature other tools read too. What is signed is the
digest of every file, `bundle.json` and what the bundle shares among them; so a signature names the one bundle id it is
of.
"""

import base64
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from distillery_runtime.errors import BundleError, InputError, Problem, ProviderError
from distillery_runtime.format.integrity import Checked, check_folder
from distillery_runtime.format.manifest import MANIFEST_NAME

SUFFIX = ".sig"


def signature_path(bundle: Path) -> Path:
    """Where a bundle's signature is by default: beside its folder, for the folder holds nothing unlisted."""
    folder = bundle.absolute()
    return folder.with_name(f"{folder.name}{SUFFIX}")


def signed_id(bundle: Path, signature: Path | None, signed_by: str, issuer: str | None) -> str:
    """Checks a bundle's signature.

    Args:
        bundle: the bundle's folder.
        signature: the signature's file; None for the default place.
        signed_by: the file of a public key (PEM), or with an `issuer` an identity of Sigstore, such as an address.
        issuer: the URL of the provider that vouches for the identity.

    Returns:
        The id of the bundle that was signed.

    Raises:
        BundleError: the signature is not of this bundle, or not by this key or identity.
        InputError: there is no such key or signature.
        ProviderError: the extra is not installed.
    """
    config = import_model_signing().verifying.Config()
    signature = signature or signature_path(bundle)
    if not signature.is_file():
        raise InputError(
            "signature", [Problem(str(signature), "no such file", f"one made by `exporter sign {bundle}`")]
        )
    if issuer is None and not Path(signed_by).is_file():
        expected = "a public key's file, or an identity of Sigstore beside --issuer URL"
        raise InputError("--signed-by", [Problem(signed_by, "no such file", expected)])
    with tempfile.TemporaryDirectory() as private:
        copy = Path(private, "signature")  # what is checked is what is read below
        copy.write_bytes(signature.read_bytes())
        try:
            if issuer is None:
                config.use_elliptic_key_verifier(public_key=signed_by)
            else:
                config.use_sigstore_verifier(identity=signed_by, oidc_issuer=issuer)
            with whole_folder(check_folder(bundle)) as folder:
                config.verify(folder, copy)
            return _id_of(copy.read_bytes())
        except Exception as error:  # model-signing and what it stands on share no base but Exception
            raise BundleError(f"{signature}: not a signature of {bundle} by {signed_by} ({error})") from error


@contextmanager
def whole_folder(files: Checked) -> Iterator[Path]:
    """Gives a folder that holds every file of a bundle, as a signature is of: its own, or a copy where it shares some.

    So the same signature is of a bundle whose files lie in its folder and of one that shares them.
    """
    if not files.shared:
        yield files.folder
        return
    with tempfile.TemporaryDirectory() as private:
        copy = Path(private, files.folder.name)
        files.copy_whole(copy)
        yield copy


def import_model_signing() -> ModuleType:
    """The package model-signing.

    Raises:
        ProviderError: the extra is not installed.
    """
    try:
        import model_signing.signing
        import model_signing.verifying
    except ModuleNotFoundError as error:
        raise ProviderError(
            f"no package {error.name}, expected the extra sign for signatures: pip install 'distillery-runtime[sign]'"
        ) from error
    module: ModuleType = model_signing
    return module


def _id_of(signature: bytes) -> str:
    """The digest of the manifest in a signature's statement."""
    statement = json.loads(base64.b64decode(json.loads(signature)["dsseEnvelope"]["payload"]))
    found = {entry["name"]: entry for entry in statement["predicate"]["resources"]}
    entry = found.get(MANIFEST_NAME, {})
    if entry.get("algorithm") != "sha256":
        raise ValueError(f"no SHA-256 of {MANIFEST_NAME} in it")
    digest: str = entry["digest"]
    return digest
