"""How Heartline proves itself to Kafka, and Kafka to Heartline: the section ``[kafka.security]``.

One section for every client: Faust and aiokafka in the engine, kafka-python in the commands.

Rules:
- Credentials travel by TLS only. Any credential beside ``protocol = "plaintext"`` is refused,
  because it shows that TLS was meant; SASL without TLS does not exist here.
- The broker's certificate is always checked, with its host name, by the system's authorities or by
  ``ca_file``. There is no switch to turn that off.
- A key that the chosen protocol or mechanism doesn't use is an error: it would only seem to work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

from agents.secret import SecretPlace, variable_of

if TYPE_CHECKING:
    import ssl

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
SECTION = "kafka.security"

_OF_TLS = ("ca_file", "certificate_file", "key_file", "key_password_file")
_OF_PASSWORDS = ("username", "password_file")
_OF_TOKENS = ("token_endpoint", "token_ca_file", "client_id", "client_secret_file", "scope")


class Security(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section. Names of files, never what is in them."""

    SECRETS: ClassVar[tuple[str, ...]] = ("password", "key_password", "client_secret")
    """Keys that people try to write into the file; each is read from its variable or ``_file``."""

    protocol: Literal["plaintext", "ssl", "sasl_ssl"] = "plaintext"
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    key_password_file: str = ""
    mechanism: Mechanism = "SCRAM-SHA-512"
    username: str = ""
    password_file: str = ""
    token_endpoint: str = ""
    token_ca_file: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    scope: str = ""

    @property
    def uses_tokens(self) -> bool:
        """Whether we prove ourselves by a token of an authorization server."""
        return self.protocol == "sasl_ssl" and self.mechanism == "OAUTHBEARER"

    def secret(self, name: str, source: str) -> SecretPlace:
        """Where ``name``, one of SECRETS, comes from. ``source`` names the file in errors."""
        return SecretPlace.of(source, SECTION, name, getattr(self, f"{name}_file"))

    def contradictions(self, source: str, environment: Mapping[str, str]) -> list[str]:
        """What can't be meant, without opening a file."""
        here = f"{source}: [{SECTION}]"
        keys = (*_OF_TLS, *_OF_PASSWORDS, *_OF_TOKENS)
        # As it was given -> the key that it stands for.
        given = {key: key for key in keys if getattr(self, key)}
        for name in self.SECRETS:
            variable = variable_of(SECTION, name)
            if environment.get(variable):
                given[variable] = f"{name}_file"
        if self.protocol == "plaintext":
            return [
                f'{here} {name}: is given, but protocol = "plaintext" would send everything '
                'unencrypted: set protocol = "sasl_ssl", or "ssl" without SASL, or take it out'
                for name in [*given][:1]
            ]
        errors = []
        unused = self._unused()
        for name, key in given.items():
            if key in unused:
                means = self.protocol if self.protocol == "ssl" else self.mechanism
                errors.append(f"{here} {name}: {means} does not use it: take it out")
        if self.protocol == "sasl_ssl":
            needed = ("token_endpoint", "client_id") if self.uses_tokens else ("username",)
            errors += [
                f"{here} {name}: is needed for {self.mechanism}"
                for name in needed
                if not getattr(self, name)
            ]
        if self.token_endpoint and not self.token_endpoint.startswith("https://"):
            errors.append(
                f"{here} token_endpoint: must begin with https://: the client secret is sent to it"
            )
        if self.key_file and not self.certificate_file:
            errors.append(f"{here} key_file: needs certificate_file, the certificate to the key")
        return errors

    def _unused(self) -> tuple[str, ...]:
        if self.protocol == "ssl":
            return (*_OF_PASSWORDS, *_OF_TOKENS)
        return _OF_PASSWORDS if self.uses_tokens else _OF_TOKENS

    def context(self, source: str) -> ssl.SSLContext:
        """TLS as this section says: broker and host name checked, our certificate shown if there
        is one. Raises SecretUnusable.
        """
        # Not above: every command reads the settings, and few connect.
        from agents.tls import show_certificate, trusting

        here = f"{source}: [{SECTION}]"
        context = trusting(self.ca_file, f"{here} ca_file")
        if self.certificate_file:
            show_certificate(
                context,
                self.certificate_file,
                self.key_file,
                here,
                password=self.secret("key_password", source),
            )
        return context
