"""Bundles that were signed, and what passes for them."""

from __future__ import annotations

import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from samhq_exporter.cli import main as export_main
from samhq_runtime import load_bundle
from samhq_runtime.bundle.files import file_entries
from samhq_runtime.cli import main
from samhq_runtime.errors import BundleError, ConfigError
from samhq_runtime.manifest import MANIFEST_NAME
from tests.support.bundles import change_manifest, export, rehash
from tests.support.required import required

required("cryptography", install="samhq-export[sign]")
from cryptography.hazmat.primitives import serialization as pem  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: E402

from samhq_runtime.bundle.signing import SIGNATURE_NAME, sign_bundle  # noqa: E402


def write_keys(folder: Path, name: str, *, passphrase: bytes = b"", elliptic: bool = False) -> tuple[Path, Path]:
    """Private and public key in PEM."""
    key = ec.generate_private_key(ec.SECP256R1()) if elliptic else ed25519.Ed25519PrivateKey.generate()
    kept = pem.BestAvailableEncryption(passphrase) if passphrase else pem.NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, kept))
    public.write_bytes(key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "ours")


def test_a_signed_bundle_loads_with_and_without_the_key(copy: Path, keys: tuple[Path, Path]) -> None:
    assert sign_bundle(copy, keys[0]) == copy / SIGNATURE_NAME
    assert load_bundle(copy, verify_key=keys[1]).manifest == load_bundle(copy).manifest


def swapped_weights(bundle: Path) -> None:
    """What hashes alone do not tell: another file, the manifest made anew for it."""
    (bundle / "reference.npz").write_bytes(b"other")
    rehash(bundle)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights and manifest of somebody else": (swapped_weights, "is not a signature of its manifest"),
    "one value": (lambda b: change_manifest(b, lambda c: c.update(mask_threshold=1.0)), "is not a signature"),
    "no signature": (lambda b: (b / SIGNATURE_NAME).unlink(), "is not signed"),
    "an empty one": (lambda b: (b / SIGNATURE_NAME).write_bytes(b""), "is not a signature"),
    "one bit": (lambda b: (b / SIGNATURE_NAME).write_bytes(bytes(64)), "is not a signature"),
    "a folder": (lambda b: [(b / SIGNATURE_NAME).unlink(), (b / SIGNATURE_NAME).mkdir()], "is not signed"),
    "no manifest": (lambda b: (b / MANIFEST_NAME).unlink(), "is not signed"),
    "weights alone": (lambda b: (b / "reference.npz").write_bytes(b"other"), "damaged"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_after_it_was_signed(copy: Path, keys: tuple[Path, Path], name: str) -> None:
    change, complaint = CHANGES[name]
    sign_bundle(copy, keys[0])
    change(copy)
    with pytest.raises(BundleError, match=complaint):
        load_bundle(copy, verify_key=keys[1])


def test_a_pickled_bundle_is_verified_again(copy: Path, keys: tuple[Path, Path]) -> None:
    sign_bundle(copy, keys[0])
    pickled = pickle.dumps(load_bundle(copy, verify_key=keys[1]))
    assert pickle.loads(pickled).manifest == load_bundle(copy).manifest
    swapped_weights(copy)
    with pytest.raises(BundleError, match="is not a signature"):
        pickle.loads(pickled)


def test_the_key_of_somebody_else(copy: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    sign_bundle(copy, write_keys(tmp_path, "theirs")[0])
    with pytest.raises(BundleError, match=r"by the key of .*ours\.pub\.pem"):
        load_bundle(copy, verify_key=keys[1])


def test_files_that_are_no_such_key(copy: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    elliptic, encrypted = write_keys(tmp_path, "ec", elliptic=True), write_keys(tmp_path, "kept", passphrase=b"secret")
    for key, complaint in (
        (tmp_path / "none", "cannot be read"),
        (tmp_path / "text", "not a private key"),
        (keys[1], "not a private key"),
        (elliptic[0], "not an Ed25519 key"),
        (encrypted[0], "is encrypted"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            sign_bundle(copy, key)
    assert not (copy / SIGNATURE_NAME).exists()
    for key, complaint in (
        (tmp_path / "text", "not a public key"),
        (keys[0], "not a public"),
        (elliptic[1], "Ed25519"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            load_bundle(copy, verify_key=key)


def test_openssl_reads_and_writes_the_same(copy: Path, keys: tuple[Path, Path]) -> None:
    """The commands of docs/security.md."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    files = ["-rawin", "-in", str(copy / MANIFEST_NAME)]
    signature = copy / SIGNATURE_NAME
    sign = ["openssl", "pkeyutl", "-sign", "-inkey", str(keys[0]), *files, "-out", str(signature)]
    verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(keys[1]), *files, "-sigfile", str(signature)]
    subprocess.run(sign, check=True, capture_output=True)
    load_bundle(copy, verify_key=keys[1])
    sign_bundle(copy, keys[0])
    subprocess.run(verify, check=True, capture_output=True)


def test_commands(copy: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private, public = map(str, keys)
    assert main(["inspect", str(copy), "--verify-key", public]) == 1
    assert "is not signed" in capsys.readouterr().err
    assert main(["sign", str(copy), "--key", private]) == 0
    assert main(["inspect", str(copy), "--verify-key", public]) == 0
    swapped_weights(copy)
    commands = {
        "predict": ["image.png", "--box", "1,1,9,9", "--output", "mask.png"],
        "serve": [],
        "engine": [],
        "triton": [str(tmp_path / "models")],
        "eval": ["--dataset", str(tmp_path), "--output", str(tmp_path / "report")],
        "bench": [],
    }
    for command, arguments in commands.items():
        capsys.readouterr()
        assert main([command, str(copy), *arguments, "--verify-key", public]) == 1
        assert "refused, manifest.json.sig" in capsys.readouterr().err
    assert main(["inspect", str(copy)]) == 0  # whole, whoever made it


def test_a_damaged_bundle_is_not_signed(copy: Path, keys: tuple[Path, Path]) -> None:
    (copy / "reference.npz").write_bytes(b"other")
    assert main(["sign", str(copy), "--key", str(keys[0])]) == 1
    assert not (copy / SIGNATURE_NAME).exists()


def test_exports_are_signed(tiny_checkpoint: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    bundle = export(tiny_checkpoint, tmp_path / "out", sign=keys[0])
    assert load_bundle(bundle.path, verify_key=keys[1]).manifest == bundle.manifest
    assert file_entries(bundle.path).keys() == {*bundle.manifest.files, MANIFEST_NAME, SIGNATURE_NAME}


def test_a_key_that_is_none_is_refused_before_the_work(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--checkpoint",
        str(tiny_checkpoint),
        "--output",
        str(tmp_path / "out"),
        "--sign",
        str(tmp_path / "no"),
    ]
    assert export_main(arguments) == 1
    error = capsys.readouterr().err
    assert "cannot be read" in error
    assert "load checkpoint" not in error
    assert not list(tmp_path.iterdir())
