"""A worker and a serve behind their doors, as processes: token and TLS, and `heartline watch` at them."""

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.rig.brokers import Broker
from tests.rig.certificates import Authority
from tests.rig.installation import Installation
from tests.rig.processes import free_ports, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(200)]

TOKEN = "a-token-that-nobody-guesses"


def ask(url: str, authority: Authority, token: str = "") -> tuple[int, str]:
    request = urllib.request.Request(  # noqa: S310 - https of our own child
        url, headers={"Authorization": f"Bearer {token}"} if token else {}
    )
    context = ssl.create_default_context(cafile=str(authority.certificate))
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_worker_and_serve_ask_for_the_token_over_tls_embedded(
    embedded_broker: Broker, tmp_path: Path
) -> None:
    authority = Authority.make(tmp_path)
    issued = authority.issue("our-servers")
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    token_file.chmod(0o644)
    worker_port, serve_port = free_ports(2)
    door: dict[str, object] = {
        "token_file": str(token_file),
        "certificate_file": str(issued.certificate),
        "key_file": str(issued.key),
    }
    settings: dict[str, dict[str, object]] = {
        "windows": {"hopping": ["1h/10m"]},
        "worker": {**door, "port": worker_port},
        "serve": {**door, "port": serve_port, "ca_file": str(authority.certificate)},
    }
    with Installation(embedded_broker, tmp_path, partitions=2, settings=settings) as heartline:
        worker, serve = heartline.start("worker"), heartline.start("serve")
        for port, path in ((worker_port, "/readyz"), (serve_port, "/readyz")):
            url = f"https://127.0.0.1:{port}"
            # Open to a stranger: whether it lives, and whether it is ready.
            wait_until(lambda url=url, path=path: ask(url + path, authority)[0] == 200, what=url)  # type: ignore[misc]
            assert ask(f"{url}/healthz", authority)[0] == 200
            assert "reasons" not in ask(f"{url}/readyz", authority)[1]
            assert ask(f"{url}/metrics", authority)[0] == 401
            assert ask(f"{url}/metrics", authority, TOKEN[:-1])[0] == 401
            assert ask(f"{url}/metrics", authority, TOKEN)[0] == 200
        assert ask(f"https://127.0.0.1:{serve_port}/", authority)[0] == 401
        status, text = ask(f"https://127.0.0.1:{serve_port}/api/v1/status", authority, TOKEN)
        assert (status, json.loads(text)["ready"]) == (200, True)

        watched = heartline.run("watch", "--once")
        assert watched.returncode == 0, watched.stderr
        refused = heartline.run("watch", "--once", "--url", f"http://serve.example:{serve_port}")
        assert refused.returncode == 1
        assert "unencrypted" in refused.stderr
        doctor = heartline.run("doctor")
        assert f"chmod 600 {token_file}" in doctor.stdout
        said = [worker.output(), serve.output(), watched.stdout, doctor.stdout, refused.stderr]
        assert TOKEN not in "".join(said)
        assert "https://127.0.0.1" in worker.output()


def test_a_server_that_can_not_have_its_certificate_does_not_start_without_embedded(
    embedded_broker: Broker, tmp_path: Path
) -> None:
    settings: dict[str, dict[str, object]] = {
        name: {"certificate_file": str(tmp_path / "gone.pem"), "port": 0}
        for name in ("worker", "serve")
    }
    with Installation(embedded_broker, tmp_path, partitions=2, settings=settings) as heartline:
        for name in settings:
            ended = heartline.run(name)
            assert ended.returncode == 2
            (line,) = [one for one in ended.stderr.splitlines() if one.startswith("heartline:")]
            assert f"[{name}] certificate_file: {tmp_path}/gone.pem: No such file" in line
            assert "Traceback" not in ended.stderr
