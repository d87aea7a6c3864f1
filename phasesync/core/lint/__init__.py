"""Warnings about a sync that would work, and break somebody who reads what it writes."""
