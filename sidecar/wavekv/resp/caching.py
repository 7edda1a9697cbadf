"""CLIENT TRACKING, CACHING, TRACKINGINFO and GETREDIR: how a client with a cache says what it wants to be told."""

from typing import Final

from wavekv.resp import replies
from wavekv.resp.refusals import SYNTAX, Refused
from wavekv.resp.session import Session
from wavekv.resp.tracking import PREFIX_BYTES, Tracking, overlapping

_FLAGS: Final = {b"BCAST": "bcast", b"OPTIN": "optin", b"OPTOUT": "optout", b"NOLOOP": "noloop"}


def tracking(session: Session, words: list[bytes]) -> bytes:
    """CLIENT TRACKING ON | OFF [PREFIX p]… [BCAST] [OPTIN] [OPTOUT] [NOLOOP]."""
    wanted, prefixes = _options(words[3:])
    if words[2].upper() == b"OFF":
        stop(session)
        return replies.OK
    if words[2].upper() != b"ON":
        raise Refused(SYNTAX)
    before = session.tracking
    if prefixes and not wanted["bcast"]:
        raise Refused("ERR PREFIX option requires BCAST mode to be enabled")
    if before is not None and before.bcast != wanted["bcast"]:
        raise Refused(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling "
            "it with a different mode."
        )
    if wanted["bcast"] and (wanted["optin"] or wanted["optout"]):
        raise Refused("ERR OPTIN and OPTOUT are not compatible with BCAST")
    if wanted["optin"] and wanted["optout"]:
        raise Refused("ERR You can't specify both OPTIN mode and OPTOUT mode")
    if before is not None and ((wanted["optin"] and before.optout) or (wanted["optout"] and before.optin)):
        raise Refused("ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client")
    if session.proto < 3:
        raise Refused("ERR tracking needs RESP3 here: send HELLO 3 first")
    known = before.prefixes if before is not None else ()
    overlapping(prefixes, known)
    _check_bounds(session, prefixes, known)
    _begin(session, wanted, tuple(prefixes))
    return replies.OK


def _begin(session: Session, wanted: dict[str, bool], prefixes: tuple[bytes, ...]) -> None:
    """Track as `wanted`. Who tracks already keeps the keys that it read: else its cache would never hear of them."""
    there = session.tracking or Tracking(session.receiver, wanted["bcast"])
    more = prefixes or ((b"",) if there.bcast and not there.prefixes else ())
    session.held_bytes -= _size(there) if session.tracking is not None else 0
    there.optin, there.optout, there.noloop = wanted["optin"], wanted["optout"], wanted["noloop"]
    there.prefixes += more
    session.held_bytes += _size(there)
    session.tracking = there
    session.shared.tracker.begin(there, more)
    session.note_told()


def _options(words: list[bytes]) -> tuple[dict[str, bool], list[bytes]]:
    wanted = dict.fromkeys(_FLAGS.values(), False)
    prefixes: list[bytes] = []
    left = list(reversed(words))
    while left:
        option = left.pop().upper()
        if option in _FLAGS:
            wanted[_FLAGS[option]] = True
        elif option == b"PREFIX" and left:
            prefixes.append(left.pop())
        elif option == b"REDIRECT" and left:
            raise Refused("ERR REDIRECT is not supported: speak RESP3 (HELLO 3) on the connection that reads")
        else:
            raise Refused(SYNTAX)
    return wanted, prefixes


def _check_bounds(session: Session, prefixes: list[bytes], known: tuple[bytes, ...]) -> None:
    limits = session.limits
    if len(prefixes) + len(known) > limits.resp_prefixes_max:
        raise Refused(f"ERR a connection names {limits.resp_prefixes_max} prefixes at most")
    if any(len(prefix) > limits.key_bytes_max for prefix in prefixes):
        raise Refused(f"ERR a prefix has {limits.key_bytes_max} bytes at most, as a key has")


def _size(there: Tracking) -> int:
    return PREFIX_BYTES + sum(len(prefix) + PREFIX_BYTES for prefix in there.prefixes)


def stop(session: Session) -> None:
    """Track nothing."""
    if session.tracking is not None:
        session.held_bytes -= _size(session.tracking)
        session.shared.events.settle(session.receiver)
        session.shared.tracker.end(session.tracking)
        session.tracking = None
        session.note_told()


def caching(session: Session, words: list[bytes]) -> bytes:
    """CLIENT CACHING YES | NO: whether the keys of the next command are tracked."""
    there = session.tracking
    if there is None or not (there.optin or there.optout):
        raise Refused(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode "
            "enabled"
        )
    said = words[2].upper()
    if said not in {b"YES", b"NO"}:
        raise Refused(SYNTAX)
    if said == b"YES" and not there.optin:
        raise Refused("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
    if said == b"NO" and not there.optout:
        raise Refused("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
    there.caching = said == b"YES"
    return replies.OK


def info(session: Session, words: list[bytes]) -> bytes:
    """CLIENT TRACKINGINFO."""
    there = session.tracking
    flags = [b"off"] if there is None else [b"on"]
    if there is not None:
        flags += [name.lower() for name, field in _FLAGS.items() if getattr(there, field)]
        if there.caching is not None:
            flags.append(b"caching-yes" if there.caching else b"caching-no")
    prefixes = there.prefixes if there is not None else ()
    facts = {
        b"flags": replies.set_of([replies.bulk(flag) for flag in flags], session.proto),
        b"redirect": replies.integer(-1 if there is None else 0),
        b"prefixes": replies.array([replies.bulk(prefix) for prefix in prefixes]),
    }
    return replies.mapping(facts, session.proto)
