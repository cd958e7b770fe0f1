"""What people read first of a decision."""

from __future__ import annotations

from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import Promotion

_HEADLINES = {
    Outcome.PROMOTE: "Promoted: {version} replaces {before} as champion.",
    Outcome.BOOTSTRAP: "Promoted: {version} is champion without having been compared with one.",
    Outcome.FORCED: "Promoted by force: {version} is champion because a person wanted it.",
    Outcome.KEEP_CHAMPION: "Not promoted: {version} does not beat {opponent}, which stays champion.",
    Outcome.BELOW_BASELINE: "Not promoted: {version} is not better than a baseline.",
    Outcome.TOO_FEW_EVENTS: "Not promoted: too few test events to decide on {version}.",
    Outcome.WOULD_PROMOTE: "Would have been promoted: {version} passed, but the champion is {why_it_stays} and stays.",
    Outcome.WOULD_KEEP: "Not promoted: {version} does not beat {opponent}, and the champion is {why_it_stays}.",
    Outcome.NOT_ASKED: "Not promoted: the run was asked to train and score {version} only.",
    Outcome.UNDECIDED: "Not decided: there is no decision on {version} in the promotion log.",
    Outcome.CHAMPION_UNUSABLE: "Not decided: the champion {opponent} can't be used.",
}


def headline(promotion: Promotion) -> str:
    """What became of the challenger, in one sentence."""
    is_newer = promotion.champion is not None and promotion.champion[:10] > str(promotion.as_of)
    return _HEADLINES[promotion.outcome].format(
        version=promotion.version,
        before=promotion.before or "none",
        opponent=promotion.opponent or "none",
        why_it_stays="of a newer day" if is_newer else "pinned",
    )
