"""Tests of destinations beyond their contract."""
