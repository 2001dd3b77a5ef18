"""Makes words of others fit for a log line, a column and a page. Pure."""

_MAX_LENGTH = 300


def storable(text: str) -> str:
    """``text`` as PostgreSQL can store it: what it can't (a NUL, a lone surrogate) in escapes."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can store ``text`` as it is, and it is some."""
    return text != "" and storable(text) == text


def one_line(trouble: object) -> str:
    """``trouble`` as one short line that can be stored."""
    line = storable(" ".join(str(trouble).split()))
    return line if len(line) <= _MAX_LENGTH else f"{line[:_MAX_LENGTH]}…"
