"""The root file system of the machine: Debian 13 with the package's dependencies, as an ext4 image.

It is kept in `.cache/system`, under the hash of all it is made from; what is there is used without a network.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

PROJECT: Final = Path(__file__).parents[2]
CACHE: Final = PROJECT / ".cache" / "system"
GUEST: Final = Path(__file__).parent / "guest"  # files laid over the root file system
SUITE: Final = "trixie"
SIZE: Final = "3G"  # of the disk; it is sparse
KEEP: Final = 3  # images: the present one and, when somebody changes branches, a few others

# The machine itself and what the tests do to it.
SYSTEM: Final = (
    *("linux-image-amd64", "initramfs-tools", "zstd", "systemd", "systemd-sysv", "udev", "kmod", "dbus"),
    *("iproute2", "iptables", "openssh-server", "procps", "adjtimex", "polkitd"),
    *("bluez", "bluez-test-tools", "alsa-utils", "man-db", "bash-completion", "sqlite3"),
)
# What the package's own tests need, as their control file says.
TESTS: Final = (
    *("autopkgtest", "mosquitto", "mosquitto-clients", "python3-pytest", "python3-pytest-asyncio"),
    *("python3-pytest-timeout", "python3-hypothesis", "python3-jsonschema", "python3-yaml"),
)
# Only these, so that the initial file system is small: an emulator unpacks it slowly.
INITRD_MODULES: Final = ("virtio_pci", "virtio_blk", "ext4")
# Nothing of these is used, and some would be at work while a figure is taken.
MASKED: Final = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
    *("fstrim.timer", "man-db.timer", "systemd-networkd-wait-online.service", "serial-getty@hvc0.service"),
    *("mosquitto.service", "adjtimex.service", "e2scrub_reap.service"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an emulator boots. `disk` is never written to: a machine takes a copy."""

    kernel: Path
    initrd: Path
    disk: Path
    key: Path  # lets root in over ssh


def dependencies(deb: Path) -> tuple[str, ...]:
    """The packages that apt would bring with `deb`: the first of each alternative."""
    told = subprocess.run(
        ["dpkg-deb", "--field", deb, "Depends"], capture_output=True, text=True, check=True
    ).stdout
    names = (re.split(r"[\s(:|]", choice.strip())[0] for choice in told.split(","))
    return tuple(sorted(name for name in names if name))


def build(deb: Path) -> Image:
    """Make the image for `deb`, or find it; about two minutes the first time. Runs as root."""
    packages = sorted({*SYSTEM, *TESTS, *dependencies(deb)})
    folder = CACHE / _key(packages)
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=CACHE) as making:
            _make(Path(making), packages)
            (Path(making) / "image").rename(folder)
        _forget_old()
    folder.touch()
    return Image(
        kernel=folder / "vmlinuz", initrd=folder / "initrd", disk=folder / "disk", key=folder / "key"
    )


def _key(packages: list[str]) -> str:
    made_from = hashlib.sha256(Path(__file__).read_bytes())
    made_from.update("\n".join(packages).encode())
    for file in sorted(path for path in GUEST.rglob("*") if path.is_file()):
        made_from.update(f"{file.relative_to(GUEST)}\n".encode() + file.read_bytes())
    return made_from.hexdigest()[:16]


def _make(making: Path, packages: list[str]) -> None:
    image, root = making / "image", making / "root"
    image.mkdir()
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "rig", "-f", image / "key"], check=True
    )
    modules = "\\n".join(INITRD_MODULES)
    hooks = (
        'mkdir -p "$1/etc/initramfs-tools/conf.d"',
        'echo MODULES=list > "$1/etc/initramfs-tools/conf.d/rig"',
        f'printf "{modules}\\n" >> "$1/etc/initramfs-tools/modules"',
        'chroot "$1" update-initramfs -u -k all',
        f'cp -R "{GUEST}/." "$1/"',
        f'install -D -m 600 "{image}/key.pub" "$1/root/.ssh/authorized_keys" && chmod 700 "$1/root/.ssh"',
        f'systemctl --root="$1" -q enable systemd-networkd radio && '
        f'systemctl --root="$1" -q mask {" ".join(MASKED)}',
        f'cp "$1"/boot/vmlinuz-* "{image}/vmlinuz" && cp "$1"/boot/initrd.img-* "{image}/initrd"',
    )
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"),
            # The package's own documentation is installed later, with all of it.
            *('--aptopt=Acquire::Languages "none"', "--dpkgopt=path-exclude=/usr/share/locale/*"),
            *(f"--customize-hook={hook}" for hook in hooks),
            *(SUITE, root),
        ],
        check=True,
    )
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, image / "disk", SIZE], check=True)
    shutil.rmtree(root)


def _forget_old() -> None:
    images = sorted(
        (path for path in CACHE.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime
    )
    for folder in images[:-KEEP]:
        shutil.rmtree(folder)
