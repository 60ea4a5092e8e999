"""TLS of our clients and servers: whom they trust, and the certificate that they show.

What can't be used is told as a setting that is wrong: which file, and what is wrong with it.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from agents.secret import SecretPlace, SecretUnusable


def trusting(ca_file: str, where: str) -> ssl.SSLContext:
    """A client's context, TLS 1.2 at least, host names checked, by ``ca_file`` or the system's
    authorities. Raises SecretUnusable with ``where`` in front.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context
    except ssl.SSLError:
        raise SecretUnusable(
            f"{where}: {ca_file}: holds no certificate: give the authorities as PEM"
        ) from None
    except OSError as error:
        raise SecretUnusable(f"{where}: {ca_file}: {error.strerror or error}") from None


def show_certificate(
    context: ssl.SSLContext,
    certificate_file: str,
    key_file: str,
    where: str,
    *,
    password: SecretPlace | None = None,
) -> None:
    """Load our certificate and its key. Raises SecretUnusable, and never asks at the terminal.

    ``key_file`` may be empty where the certificate's file holds the key as well.
    """
    for name, file in (("certificate_file", certificate_file), ("key_file", key_file)):
        if file:
            try:
                with Path(file).open("rb"):
                    pass
            except OSError as error:
                raise SecretUnusable(f"{where} {name}: {file}: {error.strerror or error}") from None
    asked = []

    def key_password() -> str:
        # OpenSSL calls this for an encrypted key only; without it, it would ask at the terminal.
        asked.append(True)
        found = None if password is None else password.read()
        return str(found) if found is not None else ""

    try:
        context.load_cert_chain(certificate_file, key_file or None, password=key_password)
    except (ssl.SSLError, ValueError) as error:
        reason = str(getattr(error, "reason", "") or error)
        if asked:
            way_out = "its password is missing or wrong" + (
                "" if password is None else f": set {password.variable} or key_password_file"
            )
            raise SecretUnusable(
                f"{where} key_file: {key_file or certificate_file}: the key is encrypted and {way_out}"
            ) from None
        if "MISMATCH" in reason:
            raise SecretUnusable(
                f"{where} key_file: {key_file}: is not the key of the certificate {certificate_file}"
            ) from None
        raise SecretUnusable(
            f"{where} certificate_file: {certificate_file}: no certificate and key as PEM were found "
            f"in {' and '.join(dict.fromkeys((certificate_file, key_file or certificate_file)))}"
        ) from None
