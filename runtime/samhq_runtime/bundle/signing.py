"""Signatures of bundles: Ed25519 over the bytes of the manifest, which holds the hash of every other file.

A signature is the raw 64 bytes, in a file beside the manifest, as `openssl pkeyutl -sign -rawin` writes and `-verify`
reads it; keys are the PEM files of `openssl genpkey -algorithm ed25519`.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import BundleError, ConfigError
from ..files import write_whole
from ..installing import install_command, unavailable
from ..manifest import MANIFEST_NAME

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
except Exception as e:  # a broken native package raises whatever its loader does
    raise unavailable("cryptography", e, install_command("sign"), use="signatures need it") from e

SIGNATURE_NAME = f"{MANIFEST_NAME}.sig"


def sign_bundle(bundle: Path, key: Path) -> Path:
    """Sign a bundle's manifest as it is now with a private key; returns the signature's file.

    Raises:
        ConfigError: not an Ed25519 private key in PEM, or an encrypted one.
        OSError: the bundle cannot be read or written.
    """
    signature = read_private_key(key).sign((bundle / MANIFEST_NAME).read_bytes())
    write_whole(bundle / SIGNATURE_NAME, lambda partial: partial.write_bytes(signature))
    return bundle / SIGNATURE_NAME


def require_signature(bundle: Path, key: Path) -> None:
    """The manifest is the one that was signed; that the other files are the manifest's is `load_bundle`'s to say.

    Raises:
        BundleError: no signature, or not one of this manifest by this key's private half.
        ConfigError: not an Ed25519 public key in PEM.
    """
    public = read_public_key(key)
    try:
        content, signature = ((bundle / name).read_bytes() for name in (MANIFEST_NAME, SIGNATURE_NAME))
    except OSError as e:
        raise BundleError(
            f"{bundle}: is not signed, {Path(e.filename).name} cannot be read ({e.strerror}); get it from who made the "
            "bundle, or sign it: samhq sign"
        ) from e
    try:
        public.verify(signature, content)
    except InvalidSignature as e:
        raise BundleError(
            f"{bundle}: refused, {SIGNATURE_NAME} is not a signature of its manifest by the key of {key}; it was "
            "signed with another key, or changed afterwards, as `samhq engine` does"
        ) from e


def read_private_key(key: Path) -> Ed25519PrivateKey:
    """ConfigError unless the file holds one that needs no passphrase."""
    try:
        found = load_pem_private_key(_content(key), password=None)
    except TypeError as e:
        raise ConfigError(
            f"{key}: is encrypted; sign with openssl, which asks for the passphrase, as docs/security.md shows"
        ) from e
    except (ValueError, UnsupportedAlgorithm) as e:
        raise ConfigError(f"{key}: not a private key in PEM; make one: openssl genpkey -algorithm ed25519") from e
    if not isinstance(found, Ed25519PrivateKey):
        raise ConfigError(f"{key}: not an Ed25519 key; make one: openssl genpkey -algorithm ed25519")
    return found


def read_public_key(key: Path) -> Ed25519PublicKey:
    """ConfigError unless the file holds one."""
    try:
        found = load_pem_public_key(_content(key))
    except (ValueError, UnsupportedAlgorithm) as e:
        raise ConfigError(f"{key}: not a public key in PEM; make it: openssl pkey -in PRIVATE -pubout") from e
    if not isinstance(found, Ed25519PublicKey):
        raise ConfigError(f"{key}: not an Ed25519 key; expected the public half of the one that signed")
    return found


def _content(key: Path) -> bytes:
    try:
        return key.read_bytes()
    except OSError as e:
        raise ConfigError(f"{key}: cannot be read ({e.strerror})") from e
