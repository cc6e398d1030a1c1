"""The Celery application: one task on a queue that belongs to one instance.

Celery acknowledges a message when it starts. What makes a crash harmless is the claimed list (`claims`), from which a
message goes only when its generation has ended; see docs/decisions/0001.
"""

import ssl
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.bootsteps import StartStopStep
from kombu import Exchange, Queue

from worker.clients import REDIS_CONNECT_TIMEOUT_SECONDS, REDIS_SOCKET_TIMEOUT_SECONDS
from worker.generation import keys
from worker.settings import Settings

TASK = "wearon.generate"
#: A message that comes is taken at once: this is how long Redis may say nothing, and each time costs a command.
_BLOCK_SECONDS = 10
#: celery-exporter forgets a worker after 60 s of silence (CE_WORKER_TIMEOUT).
_HEARTBEAT_SECONDS = 20


def create_app(settings: Settings, instance: str) -> Celery:
    """The application for this instance; connects when it is used."""
    queue = keys.celery_queue(instance)
    app = Celery("wearon")
    app.conf.update(
        broker_url=settings.redis_url,
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if settings.redis_url.startswith("rediss://") else None,
        broker_transport_options={
            "polling_interval": _BLOCK_SECONDS,
            # The claimed list knows what is unfinished; a second copy in Redis would be refused when that is full.
            "ack_emulation": False,
            # Well below the consumer's own limit of silence (health.py), with the one retry.
            "socket_timeout": REDIS_SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": REDIS_CONNECT_TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "retry_on_timeout": True,
        },
        broker_transport="worker.generation.celery.transport:Transport",
        # The unnamed exchange delivers by queue name, so nothing is left in Redis when an instance goes.
        task_queues=[Queue(queue, Exchange(""), routing_key=queue)],
        task_default_queue=queue,
        task_default_exchange="",
        task_default_routing_key=queue,
        task_ignore_result=True,
        # Otherwise each thread of the pool would look for the (disabled) result backend among all installed packages.
        result_backend_thread_safe=True,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=False,
        # For celery-exporter; `task-sent` events would only multiply its series by instance.
        worker_send_task_events=True,
        worker_enable_remote_control=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_pool_limit=2,
    )
    return app


def worker_arguments(settings: Settings, instance: str) -> list[str]:
    """Arguments of `celery worker` for this instance."""
    return [
        "--quiet",
        "worker",
        "--pool=threads",
        f"--concurrency={settings.slots}",
        f"--queues={keys.celery_queue(instance)}",
        "--without-gossip",
        "--without-mingle",
        f"--heartbeat-interval={_HEARTBEAT_SECONDS}",
        f"--loglevel={settings.log_level}",
    ]


def turns(seen: Callable[[], None], seconds: float) -> type[StartStopStep]:
    """The step that calls `seen` this often; started anew with every connection to Redis.

    A step of the worker would be started only once, and Celery forgets all timers when it loses its connection.
    """

    class Turns(StartStopStep):  # type: ignore[misc]  # Celery has no types
        requires = {"celery.worker.consumer.connection:Connection"}  # noqa: RUF012  # Celery's way

        def start(self, parent: Any) -> None:
            self.timer = parent.timer.call_repeatedly(seconds, seen)

        def stop(self, parent: Any) -> None:
            self.timer.cancel()

    return Turns
