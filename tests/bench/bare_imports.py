"""A process that imports what the daemon imports, and does nothing with it."""

import sqlite3
import sys

import bleak
import cryptography.hazmat.primitives.ciphers.aead
import dbus_fast.aio
import gpiozero
import paho.mqtt.client
import pynmea2
import serial
import systemd.daemon
import systemd.journal

IMPORTED = (bleak, cryptography, dbus_fast, gpiozero, paho, pynmea2, serial, sqlite3, systemd)

if __name__ == "__main__":
    print("true", flush=True)
    sys.stdin.read()
