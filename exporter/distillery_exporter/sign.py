"""Signing a bundle with a key or with Sigstore; the signature stands beside the folder. Needs the extra `sign`."""

import os
from pathlib import Path

from distillery_runtime.bundles.load import open_bundle
from distillery_runtime.cli.same_file import refuse_same_file
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.safe_write import replacing
from distillery_runtime.format.signature import import_model_signing, whole_folder

PASSWORD = "DISTILLERY_KEY_PASSWORD"  # noqa: S105 - the name of the variable, not a password


def sign(bundle: Path, key: Path | None, signature: Path) -> str:
    """Signs a bundle and gives its id.

    Args:
        bundle: the bundle's folder.
        key: the file of an elliptic private key (PEM), encrypted or not; None for Sigstore, which asks in a browser, or
            in a CI of the providers it knows, the provider, who signs.
        signature: the signature's file, which is replaced.

    Raises:
        BundleError: the bundle is damaged.
        InputError: the key cannot be used, or the signature would replace it or lie in the bundle.
        ProviderError: the extra is not installed.
    """
    refuse_same_file(signature, [bundle, *([key] if key else [])])
    checked = open_bundle(bundle)
    config = import_model_signing().signing.Config()
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
    with replacing(signature) as beside, whole_folder(checked.files) as folder:
        config.sign(folder, beside)
    return checked.id
