"""Tests of clients, errors, policies and identity."""
