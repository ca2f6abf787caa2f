"""Runs a real Home Assistant with nothing but its MQTT integration; for a Python that has it, not for ours.

`python home_assistant.py FOLDER BROKER_PORT HTTP_PORT` writes what its entities show as one JSON object a
line, by their unique ids, whenever that changes; it presses the button whose unique id it reads as a line.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from homeassistant import auth, bootstrap, config_entries, core, loader
from homeassistant.helpers import entity_registry
from homeassistant.setup import async_setup_component

DISCOVERED_S = 0.2
ENTRY: dict[str, object] = {
    "created_at": "2025-01-01T00:00:00+00:00",
    "modified_at": "2025-01-01T00:00:00+00:00",
    "disabled_by": None,
    "discovery_keys": {},
    "domain": "mqtt",
    "entry_id": "0123456789abcdef0123456789abcdef",
    "version": 1,
    "minor_version": 2,
    "options": {},
    "pref_disable_new_entities": False,
    "pref_disable_polling": False,
    "source": "user",
    "subentries": [],
    "title": "the broker",
    "unique_id": None,
}


async def main(folder: Path, broker_port: int, http_port: int) -> None:
    entry = {**ENTRY, "data": {"broker": "127.0.0.1", "port": broker_port}}
    store = {"version": 1, "minor_version": 5, "key": "core.config_entries", "data": {"entries": [entry]}}
    (folder / ".storage").mkdir(parents=True)
    (folder / ".storage" / "core.config_entries").write_text(json.dumps(store))
    (folder / "configuration.yaml").touch()
    hass = core.HomeAssistant(str(folder))
    hass.config.skip_pip = True
    loader.async_setup(hass)
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await bootstrap.async_load_base_functionality(hass)
    hass.auth = await auth.auth_manager_from_config(hass, [], [])
    http = {"http": {"server_host": "127.0.0.1", "server_port": http_port}}
    if not await async_setup_component(hass, "mqtt", http):
        sys.exit("the MQTT integration could not be set up")
    await hass.async_start()
    reader = asyncio.StreamReader()
    await hass.loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    watching = asyncio.create_task(watch(hass))
    while line := await reader.readline():
        entities = entity_registry.async_get(hass).entities.values()
        (name,) = (each.entity_id for each in entities if each.unique_id == line.decode().strip())
        await hass.services.async_call("button", "press", {"entity_id": name}, blocking=True)
    watching.cancel()
    await hass.async_stop()


async def watch(hass: Any) -> None:
    shown = None
    while True:
        entities = entity_registry.async_get(hass).entities.values()
        known = [(each.unique_id, hass.states.get(each.entity_id)) for each in entities]
        now = {
            name: {"state": state.state, "attributes": dict(state.attributes)}
            for name, state in known
            if state is not None
        }
        if now != shown:
            shown = now
            print(json.dumps(now, default=str), flush=True)
        await asyncio.sleep(DISCOVERED_S)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
