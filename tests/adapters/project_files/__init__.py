"""Tests of reading the files of projects."""
