"""``make attack``: everything that is tried, against one service. The exit status is 1 when anything got through."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.attack import browsers, callbacks, documents, framing, keys, leaks, limits, tenants, tokens
from tests.attack.report import Attack, Outcome, carry_out, show
from tests.attack.stage import Stage

#: In this order: what is said and kept is searched at the end.
ATTACKS: dict[str, Attack] = {
    "no key, half a key, a wrong one": keys.without_a_key,
    "a key in the address": keys.key_in_the_address,
    "other methods": keys.other_methods,
    "other spellings of a path": keys.other_spellings,
    "a key without the scope": keys.scopes,
    "a key that was revoked": keys.revocation,
    "another tenant's documents and endpoints": tenants.things_of_others,
    "another tenant's by way of one's own": tenants.things_of_two,
    "another tenant's streams": tenants.streams_of_others,
    "another tenant's documents in lists": tenants.lists,
    "tenants in figures": tenants.figures,
    "results of the same bytes": tenants.results_of_the_same_bytes,
    "fields that name a tenant": tenants.fields_of_others,
    "tokens that are none, or for something else": tokens.forgeries,
    "tokens on other routes": tokens.elsewhere,
    "tokens whose time is over": tokens.over,
    "streams whose key is revoked": tokens.live_revocation,
    "webhooks to addresses that are not public": callbacks.addresses,
    "webhooks that are led astray": callbacks.redirects,
    "pages of other origins": browsers.origins,
    "hostile file names": browsers.names,
    "files beside those of the page": browsers.traversal,
    "requests within requests": framing.smuggling,
    "requests within requests, past the balancer": framing.smuggling_past_the_balancer,
    "heads that are too much": framing.heads,
    "bodies that are too much": framing.bombs,
    "files that hold up who looks at them": framing.beginnings,
    "documents that lead elsewhere": documents.that_lead_elsewhere,
    "long bodies where few words are due": framing.long_forms,
    "slow senders": framing.slowness,
    "more than one's share": limits.shares,
    "traces, secrets and faults in answers": leaks.answers,
    "secrets in logs": leaks.logs,
    "secrets in Redis and files": leaks.what_is_kept,
}

#: Not in the short form: other tests of `make test` try the same.
LONG = {limits.shares}


def run(folder: Path, *, short: bool = False) -> list[Outcome]:
    """Carry out all attacks, on a service of their own in ``folder``."""
    with Stage(folder, short=short) as stage:
        return [carry_out(what, attack, stage) for what, attack in ATTACKS.items() if not (short and attack in LONG)]


def main() -> int:
    """The run of ``make attack``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="samples of the long lists")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingest-attack-") as folder:
        outcomes = run(Path(folder), short=options.short)
    show(outcomes)
    return 1 if any(outcome.through for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
