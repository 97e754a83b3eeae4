"""Checks of what restante keeps in the database: schema, days, processes, queues, webhooks, money."""

from __future__ import annotations

import itertools
from datetime import timedelta

from restante.core.limits import (
    DAYS_AHEAD,
    DOCTOR_DAYS_AHEAD,
    DOCTOR_OVERDUE_SECONDS,
    DOCTOR_SHOWN,
    STATUS_QUEUE_SECONDS,
    STATUS_WEBHOOK_SECONDS,
)
from restante.core.money import show_usd
from restante.doctor.finding import Finding, Patient, fault, fine, warning
from restante.flow import accounts
from restante.store import health, inspection, queue
from restante.store.schema import migrations


async def schema(patient: Patient) -> list[Finding]:
    """Whether the database is as this restante knows it."""
    if not await inspection.installed(patient.base):
        return [warning("restante was never started on this database", "Start it: `restante up`, or `restante api`.")]
    at, known = await patient.base.value("schema_version"), migrations()[-1][0]
    if at > known:
        return [
            fault(f"the database is at migration {at}, this restante knows only {known}", "Run the newer restante.")
        ]
    if at < known:
        return [
            warning(
                f"the database is at migration {at}, this restante is at {known}",
                "Stop every process of the old restante, then start this one: it migrates.",
            )
        ]
    return fine(f"migration {at}")


async def days(patient: Patient) -> list[Finding]:
    """Partitions for today and the days to come."""
    today = patient.now.date()
    missing = await inspection.missing_days(patient.base, [today + timedelta(days=n) for n in range(DAYS_AHEAD + 1)])
    if not missing:
        return fine(f"days are prepared until {today + timedelta(days=DAYS_AHEAD)}")
    said = f"there are no partitions for {missing[0]}" + (
        f" and {len(missing) - 1} days more" if len(missing) > 1 else ""
    )
    remedy = "Every serving process makes them each minute: start one, and read its log for why it could not."
    serious = missing[0] <= today + timedelta(days=DOCTOR_DAYS_AHEAD)
    return [fault(said, remedy) if serious else warning(said, remedy)]


async def processes(patient: Patient) -> list[Finding]:
    """Who serves, by the heartbeats."""
    found = await inspection.processes(patient.base)
    living = [one for one in found if one.seconds > 0]
    workers = [one.name for one in living if one.claims]
    owed = await inspection.owed(patient.base)
    wrong = []
    if not living:
        wrong.append(
            (fault if owed.tasks + owed.deliveries else warning)(
                f"no process of restante runs; {owed.tasks:,} tasks and {owed.deliveries:,} webhooks wait",
                "Start it: `restante up`; or `restante api` and `restante worker`.",
            )
        )
    elif not workers:
        wrong.append(fault(f"no worker runs, only {', '.join(one.name for one in living)}", "Start `restante worker`."))
    for one in found:
        if one.seconds < -DOCTOR_OVERDUE_SECONDS and living:
            wrong.append(
                fault(
                    f"the lease of {one.name} ended {-one.seconds:.0f} s ago, and its {one.tasks} tasks and"
                    f" {one.deliveries} webhooks were given to nobody",
                    "A worker does that every few seconds: read its log; start one if none runs.",
                )
            )
    return wrong or fine(f"{len(living)} processes, {len(workers)} of them workers")


async def waiting(patient: Patient) -> list[Finding]:
    """How long tasks wait, and those that nobody can serve."""
    served = {
        name
        for one in await inspection.processes(patient.base)
        if one.claims and one.seconds > 0
        for name in one.provider.split()
    }
    wrong = []
    for provider in sorted(served):
        seconds = await health.oldest_ready(patient.base, provider)
        if (seconds or 0) > STATUS_QUEUE_SECONDS:
            wrong.append(
                warning(
                    f"the oldest task for {provider} has been ready for {(seconds or 0) / 60:.0f} min",
                    "More workers, a larger RESTANTE_CONCURRENCY or quota; or resume its model (`restante model`).",
                )
            )
    for provider, tasks in (await queue.unserved(patient.base, sorted(served))).items():
        wrong.append(
            fault(
                f"{tasks:,} tasks wait for provider {provider}, which no living worker serves",
                "Start a worker with its settings, or cancel them: `restante task cancel`.",
            )
        )
    return wrong or fine("no task waits long")


async def stuck(patient: Patient) -> list[Finding]:
    """Work that nobody moves."""
    deadline = patient.now - timedelta(hours=patient.settings.deadline_hours, seconds=DOCTOR_OVERDUE_SECONDS)
    found = await inspection.stuck(patient.base, DOCTOR_OVERDUE_SECONDS, deadline)
    remedy = "A worker does that every few seconds: read its log; start one if none runs."
    said = [
        (found.leased, "tasks are leased to a lease that is gone"),
        (found.delivering, "webhooks are leased to a lease that is gone"),
        (found.parked, "tasks and webhooks are parked beyond their time"),
        (found.late, "tasks are beyond their deadline"),
    ]
    return [fault(f"{number:,} {what}", remedy) for number, what in said if number] or fine("nothing is stuck")


async def webhooks(patient: Patient) -> list[Finding]:
    """Hosts that do not take theirs, and how long the first attempts wait."""
    found = await inspection.failing_hosts(patient.base, patient.now.date() - timedelta(days=1), DOCTOR_SHOWN)
    wrong = [
        warning(
            f"{one.host} takes no webhooks: {one.waiting:,} are tried again, {one.failed:,} given up since yesterday",
            "Ask whose it is; ai_optimization/errors shows what it answers, appendix/webhook_resend sends them again.",
        )
        for one in found
    ]
    seconds = await health.oldest_delivery(patient.base)
    if (seconds or 0) > STATUS_WEBHOOK_SECONDS:
        wrong.append(
            warning(
                f"the oldest webhook has waited {(seconds or 0) / 60:.0f} min for its first attempt",
                "Start more workers.",
            )
        )
    return wrong or fine("webhooks go out")


async def debtors(patient: Patient) -> list[Finding]:
    """Accounts whose answers are withheld."""
    found = await inspection.debtors(patient.base)
    wrong = [
        warning(
            f"{one.login} is {show_usd(one.beyond)} USD below its limit: answers withheld, {one.tasks:,} tasks wait",
            f"restante account top-up {one.login} AMOUNT",
        )
        for one in found[:DOCTOR_SHOWN]
    ]
    if len(found) > DOCTOR_SHOWN:
        wrong.append(warning(f"and {len(found) - DOCTOR_SHOWN} accounts more", "restante account list"))
    return wrong or fine("no account is below its credit limit")


async def pauses(patient: Patient) -> list[Finding]:
    """Calls that are put off: quotas that are used up, keys that were rejected, models that a person paused."""
    wrong = []
    for one in await inspection.pauses(patient.base):
        whose = f"{one.provider} {one.model}".strip() + (f" (project {one.project})" if one.project else "")
        remedy = "Wait, raise the quota with the provider, or add a key of another project."
        if not one.model:
            remedy = "Put a good key where it comes from; it opens by itself."
        wrong.append(warning(f"{whose} is not called for {one.seconds / 60:.0f} min: {one.reason}", remedy))
    return wrong or fine("no call is put off")


async def ledger(patient: Patient) -> list[Finding]:
    """The audit: every balance and every settlement, recomputed."""
    differences = [difference async for difference in accounts.audit(patient.base)]
    wrong = [
        fault(one, "Keep a backup and the logs, and report it.") for one in itertools.islice(differences, DOCTOR_SHOWN)
    ]
    if len(differences) > DOCTOR_SHOWN:
        wrong.append(fault(f"and {len(differences) - DOCTOR_SHOWN} differences more", "restante ledger audit"))
    return wrong or fine("the ledger adds up")
