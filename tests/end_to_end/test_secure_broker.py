"""A broker as it should be: TLS, a certificate of one's own, a name and a password."""

from __future__ import annotations

from pathlib import Path

from paho.mqtt.client import Client

from end_to_end.conftest import heard
from gatewayd.sim.broker import Broker, make_certificates
from gatewayd.sim.world import World

PASSWORD = "correct horse"
SETTINGS = """\
[mqtt]
tls = yes
ca_file = {ca}
client_certificate = {certificate}
client_key_credential = client-key
username = gateway
password_credential = broker-password
"""


async def test_a_press_arrives_at_a_broker_that_asks_who_one_is(folder: Path) -> None:
    """Client certificate, key, name and password, secrets by credential; health says who it is."""
    issued = make_certificates(folder / "pki")
    settings = SETTINGS.format(ca=issued.ca, certificate=issued.client)
    world = World(folder, configuration=settings)
    world.broker = Broker(
        folder / "secure", certificates=issued, client_certificates=True, login=("gateway", PASSWORD)
    )

    def prepare(client: Client) -> None:
        client.tls_set(str(issued.ca), certfile=str(issued.client), keyfile=str(issued.client_key))
        client.username_pw_set("gateway", PASSWORD)

    async with world.up(), heard(world, prepare) as ops:
        (folder / "credentials" / "client-key").write_bytes(issued.client_key.read_bytes())
        (folder / "credentials" / "broker-password").write_text(PASSWORD)
        await world.start()
        await ops.ready(fix=False)
        await world.press(for_s=0)
        alarm = await ops.raised()
        await ops.until("sound", lambda: ops.chunks(alarm))
        assert (await ops.command("alarm/accept", alarm=alarm))["ok"]
        assert PASSWORD not in world.log.read_text()
