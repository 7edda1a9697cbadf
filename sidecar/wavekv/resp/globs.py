"""Redis' patterns over short names, in bounded time: no regular expression is made of what a client sends."""


def matches(pattern: bytes, name: bytes) -> bool:
    """Tell whether `name` matches `pattern`: `*`, `?`, `[a-z]`, `[^a]`, and a backslash before any of these.

    At most len(pattern) * len(name) steps: what does not fit goes back to the last star alone.
    """
    at = place = 0
    star = star_place = -1
    while place < len(name):
        if pattern[at : at + 1] == b"*":
            star, star_place = at, place
            at += 1
            continue
        width = _one(pattern, at, name[place]) if at < len(pattern) else 0
        if width:
            at, place = at + width, place + 1
        elif star >= 0:
            star_place += 1
            at, place = star + 1, star_place
        else:
            return False
    return not pattern[at:].strip(b"*")


def _one(pattern: bytes, at: int, letter: int) -> int:
    """Return how many bytes of the pattern match `letter`, 0: it does not match."""
    kind = pattern[at : at + 1]
    if kind == b"?":
        return 1
    if kind == b"[":
        return _in_class(pattern, at, letter)
    if kind == b"\\" and at + 1 < len(pattern):
        return 2 if pattern[at + 1] == letter else 0
    return 1 if pattern[at] == letter else 0


def _in_class(pattern: bytes, at: int, letter: int) -> int:
    end = pattern.find(b"]", at + 2)
    end = len(pattern) if end < 0 else end
    body = pattern[at + 1 : end]
    negated = body.startswith(b"^")
    body = body[negated:]
    found, place = False, 0
    while place < len(body):
        if body[place + 1 : place + 2] == b"-" and place + 2 < len(body):
            low, high = sorted((body[place], body[place + 2]))
            found = found or low <= letter <= high
            place += 3
        else:
            found = found or body[place] == letter
            place += 1
    return end + 1 - at if found != negated else 0
