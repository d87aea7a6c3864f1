"""
Draw docs/picture.svg from what `phasesync demo` prints: `make picture`.

The text is cut out of the real output, line by line; a line of EXCERPT that the output lacks is an error. Only ids and
times differ between two runs, never the layout. No external fonts: each part of a line is stretched to its columns, so
that any monospaced font fits.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape, unescape

PICTURE = Path(__file__).parent / "picture.svg"

EXCERPT = (
    "4. An edit goes out",
    "   $ phasesync secrets set shop/production API_URL",
    "   checked: both secrets carry the edit",
    "",
    "7. Drift",
    "   $ aws secretsmanager put-secret-value",
    "   checked: the store's values are back",
    "",
    "9. The guard",
    "   held: ",
    "   checked: nothing was written",
    "   $ phasesync syncs approve",
    "",
    "10. kill -9",
    "   checked: the standby works now",
    "   checked: there is one version of it, not two",
    "",
    "11. Credentials that end",
    "   $ phasesync leases issue",
    "   $ phasesync leases revoke",
    "   checked: AWS refuses the key, and the user is gone",
    "",
    "All ",
)
"""How the lines of the picture begin, in the order of the output; empty = an empty line."""

COMMAND = "$ make demo"
COLUMN, LINE, MARGIN, FONT = 8.4, 20, 20, 14
"""Pixels: width of a letter, height of a line, space around the text, size of the font."""
COLUMNS = 104
STYLE = (
    "text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
    f"font-size:{FONT}px;fill:#d5dbe3}}"
    ".title{fill:#6cb6ff;font-weight:bold}.ok{fill:#7ee2a8;font-weight:bold}.held{fill:#f0c674;font-weight:bold}"
    ".dim{fill:#8b98a9}"
)


def excerpt(output: str) -> list[str]:
    """Return the lines of the picture; LookupError if the output lacks one."""
    lines = [COMMAND, ""]
    left = iter(output.splitlines())
    for start in EXCERPT:
        line = "" if start == "" else next((line for line in left if line.startswith(start)), None)
        if line is None:
            raise LookupError(f"the demo no longer prints a line that begins with {start!r} here")
        if len(line) > COLUMNS:
            raise LookupError(f"this line is wider than the picture: {line}")
        lines.append(line)
    return lines


def draw(lines: Sequence[str]) -> str:
    """Return the picture of these lines."""
    width, height = round(COLUMNS * COLUMN + 2 * MARGIN), len(lines) * LINE + 2 * MARGIN
    view = f'viewBox="0 0 {width} {height}"'
    texts = [text for number, line in enumerate(lines) for text in _drawn(line, MARGIN + LINE * number + FONT)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {view}>',
            "<title>An excerpt of what make demo prints</title>",
            f"<style>{STYLE}</style>",
            f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" fill="#161b22" stroke="#57606a"/>',
            *texts,
            "</svg>\n",
        ]
    )


def lines_of(picture: str) -> list[str]:
    """Return the lines that a picture shows, the empty ones included."""
    lines: list[str] = []
    for x, y, content in re.findall(r'<text x="([\d.]+)" y="(\d+)"[^>]*>(.*)</text>', picture):
        number, column = (int(y) - MARGIN - FONT) // LINE, round((float(x) - MARGIN) / COLUMN)
        lines += [""] * (number + 1 - len(lines))
        lines[number] = lines[number].ljust(column) + unescape(content)
    return lines


def without_variables(lines: Sequence[str]) -> list[str]:
    """Return lines without ids, times and counts, which differ from run to run."""
    return [re.sub(r"\b(?=\w*\d)[0-9a-f]{16}\b|\d+(?:\.\d+)?", "#", line) for line in lines]


def _pieces(line: str) -> list[tuple[str, str]]:
    """Return the parts of a line with their class; together they are the line."""
    if re.match(r"\d+\. |All \d+ ", line):
        return [("title", line)]
    marked = re.match(r"( +)(checked:|held:)(.*?)( \(.*)?$", line)
    if marked:
        indent, word, text, proof = marked.groups("")
        return [("", indent), ("ok" if word == "checked:" else "held", word), ("", text), ("dim", proof)]
    command, mark, note = line.partition("  # ")
    return [("", command), ("dim", mark + note)]


def _drawn(line: str, y: int) -> list[str]:
    """Return an element for each part, at its column and as wide as its columns."""
    elements, column = [], 0
    for kind, part in _pieces(line):
        text = part.strip(" ")
        if text:
            x = MARGIN + COLUMN * (column + len(part) - len(part.lstrip(" ")))
            look = f' class="{kind}"' if kind else ""
            width = f'textLength="{len(text) * COLUMN:.1f}" lengthAdjust="spacingAndGlyphs"'
            elements.append(f'<text x="{x:.1f}" y="{y}"{look} {width}>{escape(text)}</text>')
        column += len(part)
    return elements


def main() -> int:
    """Run the demo, and write the picture; return the exit code."""
    demo = subprocess.run(
        [sys.executable, "-m", "phasesync", "demo"], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    if demo.returncode != 0:
        sys.stderr.write(f"{demo.stdout[-500:]}\nthe demo failed; the picture stays as it is\n")
        return 1
    PICTURE.write_text(draw(excerpt(demo.stdout)), encoding="utf-8")
    sys.stdout.write(f"written: {PICTURE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
