"""The booted machine: Debian 13 in an emulator with the package installed as a person would install it.

Real are the kernel with its Bluetooth and sound, bluetoothd, systemd, udev, D-Bus, ALSA and the installed
package. Outside of it, on this machine, are the air with its tags (Bumble), the receiver, the broker and the
ops side; each is wired to the emulator as hardware or as a network is.

    image.py    the root file system, made once and kept by what it is made from
    machine.py  one emulator: boot, run a command in it, pull a plug, cut the power
    air.py      the radio's other end: a virtual controller and the tags around it
    wearers.py  who wears tags in a shift, and presses them
    rig.py      all of it together, and what every test does
    claims.py   what was shown, with its figure, told at the end
"""
