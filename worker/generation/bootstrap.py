"""The wiring of the generation side: once for the supervisor, once for the Celery process."""

import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.asyncio import Redis

from worker import clients
from worker.generation import byte_budget, odd, openai_images
from worker.generation.audit.schedule import AuditSchedule
from worker.generation.bulk.record import Record
from worker.generation.byte_budget import ByteBudget
from worker.generation.celery.app import create_app
from worker.generation.data_life.schedule import DataLifeSchedule
from worker.generation.data_life.tools import Tools
from worker.generation.limiter import limiter_of
from worker.generation.openai_images import ImageEditor
from worker.generation.pauses.breaker import Breaker
from worker.generation.pauses.intake import Intake
from worker.generation.pauses.pauses import Pauses
from worker.generation.pipeline.delivery import Delivery
from worker.generation.pipeline.ends import Ends
from worker.generation.pipeline.expiry import Expiry
from worker.generation.pipeline.paid_call import PaidCall
from worker.generation.pipeline.pipeline import Pipeline
from worker.generation.pipeline.probes import Probes
from worker.generation.pipeline.spare import SpareCalls
from worker.generation.pipeline.starts import Starts
from worker.generation.pipeline.steps import DOWNLOADS, Steps
from worker.generation.prompts.choice import PromptChoice
from worker.generation.prompts.pauses import PromptPauses
from worker.generation.prompts.watch import PromptWatch
from worker.generation.queue.claims import Claims
from worker.generation.queue.consumer import Consumer
from worker.generation.queue.dead_letters import DeadLetters
from worker.generation.queue.forwarding import Forwarding
from worker.generation.queue.heartbeat import Heartbeat
from worker.generation.queue.lanes import Rules
from worker.generation.queue.refusal import Refusal
from worker.generation.queue.unstarted import Unstarted
from worker.generation.queue_metrics import Shared
from worker.generation.region import Region
from worker.generation.sessions.leases import Leases
from worker.generation.sessions.ownership import Ownership
from worker.generation.sessions.sessions import Sessions
from worker.generation.sessions.settlement import Settlement
from worker.generation.spend.limits import Limits
from worker.generation.spend.schedule import SpendSchedule
from worker.generation.spend.spend import Spend
from worker.generation.spend.view import SpendView
from worker.generation.supabase.storage import Storage
from worker.generation.sweep.open_sessions import AllSessions, OwnSessions
from worker.generation.sweep.schedule import SweepSchedule
from worker.generation.sweep.stuck import Stuck
from worker.generation.sweep.sweep import Sweeper
from worker.health import Health
from worker.memory import HighWater
from worker.photos.fetcher import ImageFetcher
from worker.settings import Settings


@dataclass(frozen=True)
class QueueSide:
    """Everything that the supervisor does about the queue."""

    claims: Claims
    ownership: Ownership
    sessions: Sessions
    consumer: Consumer
    sweeps: SweepSchedule
    settlement: Settlement
    heartbeat: Heartbeat
    #: By the name of the supervisor's part: loops that no other part asks anything of.
    schedules: dict[str, AuditSchedule | DataLifeSchedule | PromptWatch | SpendSchedule]
    metrics: Shared
    connections: AsyncExitStack


@dataclass(frozen=True)
class CelerySide:
    """Everything that the Celery process needs for a message."""

    pipeline: Pipeline
    claims: Claims
    leases: Leases
    settlement: Settlement
    #: Loops that never end by themselves.
    background: list[Coroutine[Any, Any, Any]]


def queue_side(settings: Settings, instance: str, health: Health) -> QueueSide:
    """The supervisor's objects; connects to nothing."""
    connections = AsyncExitStack()
    redis = _redis(settings)
    http = clients.http_client(clients.SUPABASE_TIMEOUT, connections=10)
    connections.push_async_callback(http.aclose)
    connections.push_async_callback(redis.aclose)
    database = clients.database_client(settings, http)
    region = Region(redis, database, settings) if settings.region else None
    sessions = Sessions(database, region)
    claims = Claims(redis, instance, settings.lease_seconds, Rules.of(settings))
    settlement = Settlement(redis, sessions, settings.signed_url_seconds)
    dead_letters = DeadLetters(redis, settings.dead_letters_max, settings.dead_letters_max_bytes)
    ownership, pauses = Ownership(redis), Pauses(redis)
    heartbeat = Heartbeat(claims, health, settings.lease_seconds)
    consumer = Consumer(
        claims=claims,
        unstarted=Unstarted(claims, ownership),
        forwarding=Forwarding(
            claims,
            create_app(settings, instance),
            pauses,
            Refusal(claims, ownership, dead_letters, sessions, settlement),
        ),
        slots=settings.slots,
        intake=Intake(pauses, settings.intake_hold_file),
        health=health,
        memory_full=HighWater(settings.memory_high_water).reached,
    )
    on_progress = partial(health.progress, "sweeper")
    storage = clients.http_client(clients.STORAGE_TIMEOUT, connections=10)
    connections.push_async_callback(storage.aclose)
    tools = Tools(settings, database, clients.storage_client(settings, storage), redis)
    stuck = Stuck(
        settings,
        claims=claims,
        ownership=ownership,
        pauses=pauses,
        sessions=OwnSessions(region, on_progress) if region else AllSessions(database, on_progress),
        settlement=settlement,
    )
    sweeper = Sweeper(
        redis,
        claims=claims,
        settlement=settlement,
        dead_letters=dead_letters,
        stuck=stuck,
        on_progress=on_progress,
        region=region,
    )
    limits = Limits(settings.budgets)
    spend = SpendView(redis, limits)
    return QueueSide(
        claims=claims,
        ownership=ownership,
        sessions=sessions,
        consumer=consumer,
        sweeps=SweepSchedule(sweeper, consumer, heartbeat, health, settings.sweep_interval_seconds),
        settlement=settlement,
        heartbeat=heartbeat,
        schedules={
            "audit": AuditSchedule(database, redis, settings.audit_interval_seconds, region),
            "data life": DataLifeSchedule(tools.purge(), tools.record, redis, settings.data_life_hours),
            "prompts": PromptWatch(settings.experiment, database, redis),
            "spend": SpendSchedule(spend, database, limits),
        },
        metrics=Shared(redis, claims, limiter_of(settings, redis), spend, settings.experiment, Rules.of(settings)),
        connections=connections,
    )


def celery_side(settings: Settings, instance: str) -> CelerySide:
    """The Celery process's objects, on the running event loop; connects to nothing."""
    redis = _redis(settings)
    database = clients.http_client(clients.SUPABASE_TIMEOUT, connections=20)
    bucket = clients.storage_client(settings, clients.http_client(clients.STORAGE_TIMEOUT, connections=50))
    client = clients.database_client(settings, database)
    sessions = Sessions(client, Region(redis, client, settings) if settings.region else None)
    settlement = Settlement(redis, sessions)
    # Connections of their own: a crowd at the limiter must not keep a renewal waiting.
    leases = Leases(clients.redis_client(settings), instance, settings.lease_seconds)
    pauses, breaker = Pauses(redis), Breaker(redis, settings)
    probes = Probes(pauses, settings.quota_pause_seconds)
    expiry = Expiry(pauses, settings, Record(redis).is_cancelled)
    limiter = limiter_of(settings, redis, breaker.check)
    spare = SpareCalls(limiter, settings)
    starts = Starts(sessions, leases, settlement, expiry, require_consent=settings.require_consent)
    fetcher = ImageFetcher(
        trusted_origins=settings.trusted_origins,
        max_bytes=settings.image_max_bytes,
        timeout_seconds=settings.fetch_timeout_seconds,
        downloads=DOWNLOADS,
    )
    editor = ImageEditor(
        openai_images.client(settings, limiter.sent),
        settings,
        wait_for_turn=spare.acquire,
        on_answer=breaker.answered,
        fetch=fetcher.fetch,
    )
    prompts = PromptChoice(settings.experiment, PromptPauses(redis))
    steps = Steps(
        fetcher=fetcher,
        paid_call=PaidCall(
            settings,
            editor=editor,
            sessions=sessions,
            starts=starts,
            expiry=expiry,
            breaker=breaker,
            probes=probes,
            prompts=prompts,
            spend=Spend(redis, settings),
        ),
        starts=starts,
        delivery=Delivery(Storage(bucket, settings.supabase_storage_bucket, settings.signed_url_seconds), probes),
        concurrency=settings.worker_concurrency,
        threads=ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="images"),
    )
    pipeline = Pipeline(
        timeout_seconds=settings.generation_timeout_seconds,
        budget=ByteBudget(byte_budget.limit(settings)),
        picture_max_bytes=settings.image_max_bytes,
        leases=leases,
        starts=starts,
        steps=steps,
        settlement=settlement,
        breaker=breaker,
        probes=probes,
        ends=Ends(
            starts=starts,
            breaker=breaker,
            probes=probes,
            dead_letters=DeadLetters(redis, settings.dead_letters_max, settings.dead_letters_max_bytes),
        ),
        wait_for_spare=spare.wait,
    )
    claims = Claims(redis, instance, settings.lease_seconds)
    background = [leases.renew_forever(), editor.models.watch_forever(), prompts.watch_forever()]
    if limiter.share:
        background.append(limiter.share.report_forever())
    return CelerySide(pipeline, claims, leases, settlement, background)


def _redis(settings: Settings) -> Redis:
    client = clients.redis_client(settings)
    client.on_wrong_type = odd.set_aside_wrong_keys
    return client
