"""The Celery process: the application, its transport, and the socket that joins the process to the supervisor."""
