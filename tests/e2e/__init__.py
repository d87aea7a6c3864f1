"""The installed command and whole daemons, driven from outside, against an AWS on loopback."""
