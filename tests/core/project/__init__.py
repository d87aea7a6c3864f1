"""Tests of projects as values."""
