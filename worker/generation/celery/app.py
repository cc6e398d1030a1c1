"""The Celery application: one task on a queue that belongs to one instance.

Celery acknowledges a message when it starts. What makes a crash harmless is the claimed list (`claims`), from which a
message goes only when its generation has ended; see docs/decisions/0001.
"""

from celery import Celery
from kombu import Exchange, Queue

from worker.clients import celery_transport
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
    transport = celery_transport(settings)
    transport["broker_transport_options"]["polling_interval"] = _BLOCK_SECONDS
    app.conf.update(
        **transport,
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
