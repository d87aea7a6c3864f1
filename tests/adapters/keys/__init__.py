"""The root key and the key ring."""
