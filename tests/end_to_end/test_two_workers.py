"""Two workers in need, one microphone."""

from pathlib import Path

from end_to_end.conftest import heard
from gatewayd.sim.world import KEY, TAG, World

ADDRESS_2 = "C4:11:22:33:44:66"
SECOND = f"""
[tag nurse-2-tag]
address = {ADDRESS_2}
key_credential = tag-nurse-1
worker = nurse-2
"""


async def test_presses_of_two_workers_verify_each_other_and_share_the_microphone(folder: Path) -> None:
    """Both are corroborated; the second is recorded in the first, also after that is closed."""
    world = World(folder, configuration=SECOND)
    async with world.up(), heard(world) as ops:
        await world.start()
        await ops.ready(fix=False)
        await world.press(for_s=0)
        first = await ops.raised(TAG)
        await ops.told(first, "audio_started")
        await world.order(do="press", address=ADDRESS_2, key=KEY, for_s=0)
        second = await ops.raised("nurse-2-tag")
        assert (await ops.told(first, "corroborated"))["corroborated_by"] == [second]
        assert (await ops.told(second, "corroborated"))["corroborated_by"] == [first]
        assert (await ops.told(second, "audio_started"))["recorded_in"] == first
        await ops.command("alarm/close", alarm=first, outcome="real")
        chunks = len(ops.chunks(first))
        await ops.until("sound that goes on", lambda: len(ops.chunks(first)) >= chunks + 2)
        await ops.command("alarm/close", alarm=second, outcome="real")
        await ops.told(second, "audio_ended")
        await ops.until("the end of the sound", lambda: ops.sound_ended(first))
        assert ops.chunks(second) == {}
