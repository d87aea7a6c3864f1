"""Numbers in messages. Pure."""


def counted(number: int, noun: str) -> str:
    """Return how many there are of something, as text: `1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
