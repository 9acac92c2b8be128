"""The generated part of ``docs/performance.md``: everything between its two marks. The rest is written by people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import picture, report

if TYPE_CHECKING:
    from pathlib import Path

    from .series import Results

PAGE = "performance.md"
PICTURE = "performance.svg"
BEGIN = "<!-- make bench: begin -->"
END = "<!-- make bench: end -->"
EMPTY_PAGE = f"# Performance\n\n{BEGIN}\n{END}\n"


def update(docs: Path, results: Results, circumstances: str, profile: str) -> list[Path]:
    """Put table, picture and the engine's own profile into the page, and say which files were written."""
    page = docs / PAGE
    text = page.read_text(encoding="utf-8") if page.exists() else EMPTY_PAGE
    drawn = picture.draw(results, docs / PICTURE)
    page.write_text(with_generated(text, generated(results, circumstances, drawn, profile)), encoding="utf-8")
    return [page, docs / PICTURE] if drawn else [page]


def generated(results: Results, circumstances: str, drawn: bool, profile: str) -> str:
    chart = f"![The same engines, workload by workload]({PICTURE})\n\n" if drawn else ""
    tables = f"{report.goals(results)}\n\n{report.tables(results)}"
    return f"Written by `make bench DOCS=1`: {circumstances}\n\n{chart}```\n{tables}\n```\n\n```\n{profile}\n```"


def with_generated(text: str, part: str) -> str:
    """The page with another generated part.

    Raises:
        ValueError: The marks are gone.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} lacks its marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{part}\n{END}{after}"
