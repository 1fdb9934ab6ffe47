"""Signing a bundle with a key or with Sigstore; the signature stands beside the folder. Needs the extra `sign`."""

import os
from pathlib import Path

from distillery_runtime.bundle import open_bundle
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.same_file import refuse_same_file
from distillery_runtime.signature import import_model_signing, signature_path

PASSWORD = "DISTILLERY_KEY_PASSWORD"  # noqa: S105 - the name of the variable, not a password


def sign(bundle: Path, key: Path | None, out: Path | None) -> tuple[Path, str]:
    """Signs a bundle.

    Args:
        bundle: the bundle's folder.
        key: the file of an elliptic private key (PEM), encrypted or not; None for Sigstore, which asks in a browser, or
            in a CI of the providers it knows, the provider, who signs.
        out: the signature's file; None for the place where `distillery verify` looks for it.

    Returns:
        The signature's file and the bundle's id.

    Raises:
        BundleError: the bundle is damaged.
        InputError: the key cannot be used, or the signature would lie in the bundle.
        ProviderError: the extra is not installed.
    """
    if out is not None and key is not None:
        refuse_same_file(out, [key])
    checked = open_bundle(bundle)
    config = import_model_signing().signing.Config()
    signature = out or signature_path(bundle)
    if checked.folder in signature.resolve().parents:
        raise InputError("--out", [Problem(str(signature), "a file in the bundle", "one beside it")])
    if key is None:
        config.use_sigstore_signer(use_ambient_credentials="CI" in os.environ)
    else:
        try:
            config.use_elliptic_key_signer(private_key=key, password=os.environ.get(PASSWORD))
        except (ValueError, TypeError) as error:
            problem = Problem(
                str(key), f"cannot be used ({error})", f"an elliptic private key, its password in {PASSWORD}"
            )
            raise InputError("--key", [problem]) from error
    beside = signature.with_name(f".{signature.name}.{os.getpid()}.part")
    try:
        config.sign(checked.folder, beside)
        beside.replace(signature)
    finally:
        beside.unlink(missing_ok=True)
    return signature, checked.id
