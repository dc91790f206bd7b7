"""A small table for notebooks."""

from __future__ import annotations

from collections.abc import Iterable


def html_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """HTML of a title and a table. Title, columns and cells are plain text and are escaped."""
    from html import escape  # its list of entities is large, and only notebooks need it

    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<p>{escape(title)}</p><table><tr>{head}</tr>{body}</table>"
